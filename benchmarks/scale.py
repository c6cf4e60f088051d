"""What a step costs as the log grows: 1 to 100 million interactions of made-up people, each size in a process of its own.

graphcl bench scale                            # all sizes, to results/scale.json; the largest wants about 11 GiB
python -m benchmarks.scale --max 3             # sizes up to 3 million; printed, nothing written
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from benchmarks.measure import ROOT, elsewhere, peak_gib, stamped, timed
from graphcl import rundir
from graphcl.contracts import Batch
from graphcl.data import read_interactions, split
from graphcl.graph import Graph, bipartite
from graphcl.interactions import Interactions
from graphcl.rank import DotScorer, top_k
from graphcl.recipes import lightgcn, xsimgcl
from graphcl.recipes.parts import step_of
from graphcl.streams import Streams

MILLIONS = (1, 3, 10, 30, 100)
LINE_FROM = 10  # millions, where the line begins: below, tables fit into caches
RANKED, REPEATS, BATCH = 1000, 5, 2048


def triples(data: Interactions, number: int, seed: int = 0) -> Iterator[Batch]:
    """Batches of random pairs with random negatives, without an epoch's worth in memory."""
    rng = np.random.default_rng(seed)
    for _ in range(number):
        chosen = rng.integers(len(data), size=BATCH)
        users, positives = data.users[chosen].astype(np.int64), data.items[chosen].astype(np.int64)
        columns = (users, positives + data.num_users, rng.integers(data.num_items, size=BATCH) + data.num_users)
        yield Batch(*(torch.from_numpy(column) for column in columns))


def step_seconds(
    recipe: ModuleType, graph: Graph, data: Interactions, batches: Sequence[Batch], **settings: Any
) -> tuple[float, Any]:
    """Median seconds of a step, and the model."""
    config, streams = recipe.Config(**settings), Streams(0)
    model = recipe.build(config, data, rng=streams["init"]).train()
    step = step_of(recipe, config, model)
    turn = itertools.cycle(batches)
    taken = [timed(lambda: step(model, graph, next(turn), streams["views"])) for _ in range(REPEATS + 1)]
    model.zero_grad(set_to_none=True)
    return float(np.median(taken[1:])), model


def one(path: Path) -> dict[str, Any]:
    """Everything about one log. Each table is let go before the next is made."""
    began = time.perf_counter()
    log = read_interactions(path)
    found: dict[str, Any] = {"interactions": len(log), "users": log.num_users, "items": log.num_items}
    found |= {"seconds_read": time.perf_counter() - began, "gib_read": peak_gib()}
    began = time.perf_counter()
    data = split(log, rule="all").train  # rows in order of degree
    del log
    found["seconds_split"] = time.perf_counter() - began
    began = time.perf_counter()
    graph = bipartite(data)
    found["seconds_graph"] = time.perf_counter() - began
    found |= {"edges": graph.num_pairs, "gib_graph": peak_gib()}
    batches = list(triples(data, REPEATS + 1))
    found["seconds_xsimgcl"], model = step_seconds(xsimgcl, graph, data, batches, num_layers=2)
    del model
    gc.collect()
    found["seconds_lightgcn"], model = step_seconds(lightgcn, graph, data, batches)
    gc.collect()
    with torch.no_grad():
        began = time.perf_counter()
        table = model.embed(graph)
        found["seconds_embed"] = time.perf_counter() - began
        del model
        gc.collect()
        scorer = DotScorer(table[: data.num_users], table[data.num_users :])
        some = torch.randperm(data.num_users, generator=torch.Generator().manual_seed(0))[:RANKED].sort().values
        top_k(scorer, some[:2], 20)  # compiles
        found["seconds_rank"] = timed(lambda: top_k(scorer, some, 20))
    return {**found, "gib_peak": peak_gib(), "threads": torch.get_num_threads()}


def line(sizes: Sequence[dict[str, Any]], key: str) -> dict[str, Any] | None:
    """Least squares of seconds on edges over the large sizes, and how far each lies from it at most; None below two."""
    large = [size for size in sizes if size["interactions"] >= LINE_FROM * 10**6]
    if len(large) < 2:
        return None
    edges, seconds = (np.array([size[name] for size in large], dtype=np.float64) for name in ("edges", key))
    slope, start = np.polyfit(edges, seconds, 1)
    off = np.abs(seconds / (start + slope * edges) - 1)
    return {"nanoseconds_per_edge": slope * 1e9, "seconds_at_zero": start, "largest_deviation": float(off.max())}


def measured(millions: Sequence[float]) -> Iterator[dict[str, Any]]:
    for size in millions:
        number = int(size * 10**6)
        with tempfile.TemporaryDirectory() as folder:
            log = str(Path(folder) / "log.parquet")
            sizes = {"users": number // 20, "items": number // 100, "interactions": number}
            arguments = [str(part) for name, value in sizes.items() for part in (f"--{name}", value)]
            verb = [sys.executable, "-m", "graphcl.cli", "data", "synth", *arguments, "--out", log]
            subprocess.run(verb, cwd=ROOT, check=True, capture_output=True)
            found = elsewhere("-m", "benchmarks.scale", "--one", log)
        for recipe in ("lightgcn", "xsimgcl"):
            found[f"nanoseconds_per_edge_{recipe}"] = found[f"seconds_{recipe}"] / found["edges"] * 1e9
        yield found


def main(root: Path = Path("benchmarks"), millions: Sequence[float] = MILLIONS) -> dict[str, Any]:
    sizes: list[dict[str, Any]] = []
    for found in measured(millions):
        sizes.append(found)
        lines = {recipe: line(sizes, f"seconds_{recipe}") for recipe in ("lightgcn", "xsimgcl")}
        summary = {f"{size['interactions'] / 1e6:g} million": told(size) for size in sizes}
        result = stamped("scale", sizes=sizes, lines=lines, summary=summary)
        rundir.write_json(root / "results" / "scale.json", result)  # after each, for the last ones take long
    return result


def told(size: dict[str, Any]) -> str:
    return (
        f"read {size['seconds_read']:.2f} s, graph {size['seconds_graph']:.2f} s, LightGCN step {size['seconds_lightgcn']:.3f} s, XSimGCL step "
        f"{size['seconds_xsimgcl']:.3f} s, embed {size['seconds_embed']:.2f} s, rank {RANKED} users {size['seconds_rank']:.2f} s, "
        f"peak {size['gib_peak']:.1f} GiB"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Steps as the log grows.")
    parser.add_argument("--max", type=float, help="sizes up to so many million interactions; nothing is written")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one is not None:
        print(json.dumps(one(asked.one)))
    elif asked.max is not None:
        for found in measured([size for size in MILLIONS if size <= asked.max]):
            print(f"{found['interactions']:,}: {told(found)}", flush=True)
    else:
        main()
