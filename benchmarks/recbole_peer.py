"""A RecBole model, a step at a time, in an environment that has RecBole: ``python recbole_peer.py FOLDER NAME MODEL SETTINGS``.

FOLDER/NAME holds atomic files, SETTINGS is JSON. For every line on stdin one batch is drawn by RecBole's own loader and trained on
as its ``Trainer`` does; a line of JSON answers with the seconds of either. Batches come in random order.
"""

import json
import sys
import time


def main(folder: str, name: str, model: str, settings: str) -> None:
    import recbole
    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, init_seed

    shared = {"data_path": folder, "seed": 0, "use_gpu": False, "show_progress": False, "state": "ERROR"}
    sys.argv = sys.argv[:1]  # RecBole reads the command line too
    config = Config(model=model, dataset=name, config_dict={**shared, **json.loads(settings)})
    init_seed(0, True)
    dataset = create_dataset(config)
    train, _, _ = data_preparation(config, dataset)
    trained = get_model(model)(config, train.dataset)
    optimiser = torch.optim.Adam(trained.parameters(), lr=config["learning_rate"])  # as RecBole's Trainer makes it
    about = {"recbole": recbole.__version__, "torch": torch.__version__, "threads": torch.get_num_threads(), "steps": len(train)}
    print(json.dumps(about), flush=True)
    batches = iter(train)
    for _ in sys.stdin:
        began = time.perf_counter()
        try:
            batch = next(batches)
        except StopIteration:
            batches = iter(train)
            batch = next(batches)
        drawn = time.perf_counter()
        optimiser.zero_grad()
        trained.calculate_loss(batch).backward()
        optimiser.step()
        print(json.dumps({"draw": drawn - began, "step": time.perf_counter() - drawn}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
