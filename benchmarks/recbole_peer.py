"""RecBole's LightGCN, a step at a time, in an environment that has RecBole: ``python recbole_peer.py FOLDER NAME``.

FOLDER/NAME holds atomic files. For every line on stdin one batch is drawn by RecBole's own loader and trained on as its
``Trainer`` does; a line of JSON answers with the seconds of either. Batch 2048, three layers, width 64, as ours.
"""

import json
import sys
import time


def main(folder: str, name: str) -> None:
    import recbole
    import torch
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.model.general_recommender import LightGCN
    from recbole.utils import init_seed

    settings = {
        "data_path": folder, "benchmark_filename": ["train", "valid", "test"], "load_col": {"inter": ["user_id", "item_id"]},
        "embedding_size": 64, "n_layers": 3, "reg_weight": 1e-4, "train_batch_size": 2048, "learning_rate": 1e-3, "seed": 0,
        "use_gpu": False, "show_progress": False, "state": "ERROR",
        "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1, "alpha": 1.0, "dynamic": False, "candidate_num": 0},
        "eval_args": {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "RO", "mode": "full"},
    }  # fmt: skip
    sys.argv = sys.argv[:1]  # RecBole reads the command line too
    config = Config(model="LightGCN", dataset=name, config_dict=settings)
    init_seed(0, True)
    dataset = create_dataset(config)
    train, _, _ = data_preparation(config, dataset)
    model = LightGCN(config, train.dataset)
    optimiser = torch.optim.Adam(model.parameters(), lr=config["learning_rate"])  # as RecBole's Trainer makes it
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
        model.calculate_loss(batch).backward()
        optimiser.step()
        print(json.dumps({"draw": drawn - began, "step": time.perf_counter() - drawn}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
