"""A LightGCN step here and in RecBole, in turns: ``make bench-recbole``. Its data are gowalla's pairs as atomic files."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import recbole_steps
from benchmarks.measure import OURS, row, stamped, timed, told
from benchmarks.steps import OurStep
from graphcl import rundir, runs
from graphcl.data import protocol as protocols
from graphcl.graph import bipartite
from graphcl.integrations.peer import check_environment, write_parts
from graphcl.interactions import Interactions
from graphcl.recipes import lightgcn

SETTINGS = {  # batch 2048, three layers, width 64, as ours
    "benchmark_filename": ["train", "valid", "test"], "load_col": {"inter": ["user_id", "item_id"]},
    "embedding_size": 64, "n_layers": 3, "reg_weight": 1e-4, "train_batch_size": 2048, "learning_rate": 1e-3,
    "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1, "alpha": 1.0, "dynamic": False, "candidate_num": 0},
    "eval_args": {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "RO", "mode": "full"},
}  # fmt: skip


def compare(train: Interactions, test: Interactions, *, python: Path = recbole_steps.PYTHON, repeats: int = 15) -> dict[str, Any]:
    """Median seconds of a step, and of a step with its share of the sampling, on both sides.

    Raises:
        FileNotFoundError: there is no environment with RecBole.
    """
    check_environment(python)
    graph = bipartite(train)
    ours = OurStep(lightgcn, graph, train)
    sampling = float(np.median([timed(lambda: ours.drawn(1)) for _ in range(3)])) / ours.epoch_steps
    batches = iter(ours.drawn(repeats + 2))
    taken: dict[str, list[float]] = {"ours": [], "step": [], "draw": []}
    with tempfile.TemporaryDirectory() as folder:
        # RecBole wants a validation part: the test part again, never looked at.
        write_parts(Path(folder), "log", {"train": train, "valid": test, "test": test})
        with recbole_steps.recbole(folder, "log", "LightGCN", SETTINGS, python=python) as peer:
            for turn in range(repeats + 2):  # two to warm up
                batch = next(batches)
                seconds = timed(lambda batch=batch: ours(batch))
                answer = peer.step()
                if turn > 1:
                    taken["ours"].append(seconds)
                    taken["step"].append(answer["step"])
                    taken["draw"].append(answer["draw"])
    mine, step = float(np.median(taken["ours"])), float(np.median(taken["step"]))
    drawn = float(np.median(np.add(taken["step"], taken["draw"])))
    rows = [
        row("LightGCN step, 3 layers, d 64, batch 2048", {OURS: mine, peer.name: step}),
        row("the same with its share of the sampling", {OURS: mine + sampling, peer.name: drawn}),
    ]
    return {"peer": peer.about, "rows": rows}


def main(root: Path = Path("benchmarks"), data: str = "gowalla") -> dict[str, Any]:
    plan = protocols.plan(runs.load_data(data)[0], "as-published")
    assert plan.test is not None
    found = compare(plan.train, plan.test)
    result = stamped("speed-recbole", data=data, **found, summary={line["what"]: told(line) for line in found["rows"]})
    rundir.write_json(root / "results" / "speed-recbole.json", result)
    return result
