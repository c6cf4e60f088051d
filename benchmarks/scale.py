"""What a step costs as the log grows: 1 to 100 million interactions of made-up people, each size in a process of its own.

graphcl bench scale                            # all sizes, to results/scale.json; the largest wants about 20 GiB
python -m benchmarks.scale --max 3             # sizes up to 3 million; printed, nothing written
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import resource
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from benchmarks.measure import elsewhere, stamped, timed
from graphcl import rundir
from graphcl.contracts import Batch
from graphcl.graph import Graph, bipartite
from graphcl.interactions import Interactions, Vocabulary
from graphcl.rank import DotScorer, top_k
from graphcl.recipes import lightgcn, xsimgcl
from graphcl.streams import Streams
from graphcl.train import PlainStep

MILLIONS = (1, 3, 10, 30, 100)
LINE_FROM = 10  # millions, where the line begins: below, tables fit into caches
RANKED, REPEATS, BATCH, BLOCK = 1000, 5, 2048, 2**22


def made_up(num_users: int, num_items: int, number: int, seed: int) -> Interactions:
    """Pairs whose ends follow power laws, rows in order of popularity, as splits order them; repeats merge in the graph."""
    rng = np.random.default_rng(seed)
    sides = []
    for count, exponent in ((num_users, 0.5), (num_items, 0.75)):
        rows = np.empty(number, dtype=np.int32)
        power = 1 - exponent
        for start in range(0, number, BLOCK):  # no float64 of the whole length is held
            part = rows[start : start + BLOCK]
            part[:] = (rng.random(len(part)) * ((count + 1) ** power - 1) + 1) ** (1 / power) - 1
        order = np.argsort(-np.bincount(rows, minlength=count), kind="stable")
        place = np.empty(count, dtype=np.int32)
        place[order] = np.arange(count, dtype=np.int32)
        np.take(place, rows, out=rows)
        sides.append(rows)
    return Interactions(sides[0], sides[1], Vocabulary(np.arange(num_users)), Vocabulary(np.arange(num_items)))


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
    step = PlainStep(model, config.learning_rate)
    turn = itertools.cycle(batches)
    taken = [timed(lambda: step(model, graph, next(turn), streams["views"])) for _ in range(REPEATS + 1)]
    model.zero_grad(set_to_none=True)
    return float(np.median(taken[1:])), model


def one(number: int) -> dict[str, Any]:
    """Everything at one size. Each table is let go before the next is made."""
    began = time.perf_counter()
    data = made_up(number // 20, number // 100, number, 0)
    found: dict[str, Any] = {"interactions": number, "users": data.num_users, "items": data.num_items}
    found["seconds_made_up"] = time.perf_counter() - began
    began = time.perf_counter()
    graph = bipartite(data)
    found["seconds_graph"] = time.perf_counter() - began
    vars(data).pop("matrix", None)  # the graph has the pairs now
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


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


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
        found = elsewhere("-m", "benchmarks.scale", "--one", str(int(size * 10**6)))
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
        f"graph {size['seconds_graph']:.2f} s, LightGCN step {size['seconds_lightgcn']:.3f} s, XSimGCL step "
        f"{size['seconds_xsimgcl']:.3f} s, embed {size['seconds_embed']:.2f} s, rank {RANKED} users {size['seconds_rank']:.2f} s, "
        f"peak {size['gib_peak']:.1f} GiB"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Steps as the log grows.")
    parser.add_argument("--max", type=float, help="sizes up to so many million interactions; nothing is written")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one is not None:
        print(json.dumps(one(asked.one)))
    elif asked.max is not None:
        for found in measured([size for size in MILLIONS if size <= asked.max]):
            print(f"{found['interactions']:,}: {told(found)}", flush=True)
    else:
        main()
