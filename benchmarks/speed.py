"""Speed against peers in the same run: ratios of medians taken in turns, threads stated.

    graphcl bench speed                                    # everything, to results/speed.json; CUDA too where there is one
    python -m benchmarks.speed --only xsimgcl              # rows whose name holds a word; printed, nothing written
    python -m benchmarks.speed --device cpu

Reads gowalla and sparse_yelp from $GRAPHCL_DATA or the cache. Peers: ``peers.py`` (models), ``pipeline.py`` (the rest).
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks import pipeline, steps
from benchmarks.measure import OURS, devices, medians, skipped, stamped, told
from graphcl import rundir, runs
from graphcl.data import protocol as protocols
from graphcl.graph import Graph, bipartite
from graphcl.recipes import lightgcn

Rows = list[dict[str, Any]]


class Loaded:
    """A data set's plan and graph, read when first asked for."""

    def __init__(self, data: str, protocol: str):
        self.data, self.protocol = data, protocol

    @cached_property
    def plan(self) -> protocols.Plan:
        return protocols.plan(runs.load_data(self.data)[0], self.protocol)

    @cached_property
    def graph(self) -> Graph:
        return bipartite(self.plan.train)


def on_device(large: Loaded, small: Loaded, device: str) -> dict[str, Callable[[], Rows]]:
    """Rows that are measured on every device."""

    def stepped(make: Callable[..., dict[str, Any]], of: Loaded) -> Callable[[], Rows]:
        return lambda: [make(of.graph.to(device), of.plan.train)]

    return {
        "propagation": lambda: [steps.product_row(large.graph.to(device))],
        "lightgcn": stepped(steps.lightgcn_row, large),
        "xsimgcl": stepped(steps.xsimgcl_row, large),
        "lightgcl": stepped(steps.lightgcl_row, small),
    }


def on_cpu(large: Loaded, small: Loaded) -> dict[str, Callable[[], Rows]]:
    return {
        "simgcl": lambda: [steps.simgcl_row(large.graph, large.plan.train)],
        "sgl": lambda: [steps.sgl_row(large.graph, large.plan.train)],
        "memory": lambda: [steps.memory_row(small.data)],
        "ranking": lambda: [pipeline.rank_row(large.plan)],
        "reading": lambda: [pipeline.read_row(large.data)],
        "sampling": lambda: [pipeline.sample_row(large.plan.train)],
        "start": pipeline.start_rows,
        "implicit": lambda: [implicit_row(large)],
    }


def implicit_row(large: Loaded) -> dict[str, Any]:
    """Our epochs are as many steps as there are batches, and the sampling."""
    train, graph = large.plan.train, large.graph
    seconds = {}
    for name, layers in ((OURS, 3), ("graphcl, no layers", 0)):
        ours = steps.OurStep(lightgcn, graph, train, num_layers=layers)
        turn = itertools.cycle(ours.drawn(12))
        taken = medians({"step": lambda turn=turn, ours=ours: ours(next(turn)), "draw": lambda ours=ours: ours.drawn(1)}, 9)
        seconds[name] = ours.epoch_steps * taken["step"] + taken["draw"]
    with tempfile.TemporaryDirectory() as folder:
        return pipeline.implicit_row(train, Path(folder), seconds)


def measured(large: Loaded, small: Loaded, device: str = "auto", only: str | None = None) -> Iterator[dict[str, Any]]:
    for where in devices(device):
        for name, make in on_device(large, small, where).items():
            if only is None or only in name:
                yield from make()
    if only is None and "cuda" not in devices():
        yield skipped("the steps on CUDA", "no CUDA device here")
    if device != "cuda":
        for name, make in on_cpu(large, small).items():
            if only is None or only in name:
                yield from make()


def main(root: Path = Path("benchmarks"), *, device: str = "auto") -> dict[str, Any]:
    large, small = Loaded("gowalla", "as-published"), Loaded("sparse_yelp", "valid")
    rows = list(measured(large, small, device))
    result = stamped(
        "speed",
        data=[large.data, small.data],
        rows=rows,
        summary={line["what"] + (" (cuda)" if line.get("device", "cpu") != "cpu" else ""): told(line) for line in rows},
    )
    rundir.write_json(root / "results" / "speed.json", result)
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Speed against peers in the same run.")
    parser.add_argument("--only", help="rows whose name holds this word; nothing is written")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    asked = parser.parse_args()
    if asked.only is None:
        print("\n".join(f"{what}: {words}" for what, words in main(device=asked.device)["summary"].items()))
    else:
        for line in measured(Loaded("gowalla", "as-published"), Loaded("sparse_yelp", "valid"), asked.device, asked.only):
            print(f"{line['what']}: {told(line)}", flush=True)
