"""Where a step's time goes, and how far each kernel is from the machine's limits.

graphcl bench breakdown                # to results/breakdown.json; python -m benchmarks.table makes the tables of it
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import roofline
from benchmarks.measure import amount, stamped
from benchmarks.steps import OurStep, named
from graphcl import rundir, runs
from graphcl.contracts import Batch
from graphcl.data import protocol as protocols
from graphcl.graph import bipartite
from graphcl.recipes import lightgcl, lightgcn, xsimgcl

SHOWN = 10  # operators of a step, by their own time
STEPS = (
    ("LightGCN", lightgcn, "gowalla", "as-published", {}),
    ("XSimGCL", xsimgcl, "gowalla", "as-published", {"num_layers": 2}),
    ("LightGCL", lightgcl, "sparse_yelp", "valid", {}),
)


def phases(ours: OurStep, batches: Sequence[Batch]) -> dict[str, float]:
    """Median seconds of losses, backward and Adam, the first batch left out."""
    rng = torch.Generator().manual_seed(0)
    parameters = list(ours.model.parameters())
    adam = torch.optim.Adam(parameters, lr=ours.config.learning_rate, fused=True)
    taken = []
    for batch in batches:
        clock = [time.perf_counter()]
        adam.zero_grad(set_to_none=True)
        loss = torch.stack(list(ours.model.losses(ours.graph, batch, rng).values())).sum()
        clock.append(time.perf_counter())
        loss.backward()
        clock.append(time.perf_counter())
        adam.step()
        clock.append(time.perf_counter())
        taken.append(np.diff(clock))
    return dict(zip(("losses", "backward", "Adam"), np.median(taken[1:], axis=0).tolist(), strict=True))


def operators(ours: OurStep, batches: Sequence[Batch]) -> list[dict[str, Any]]:
    """Operators by the time that is their own, a step; compiled kernels count to the function that calls them."""
    ours(batches[0])
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for batch in batches[1:]:
            ours(batch)
    steps = len(batches) - 1
    found = sorted(profiled.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in found)
    return [
        {
            "operator": event.key,
            "seconds": event.self_cpu_time_total / 1e6 / steps,
            "share": event.self_cpu_time_total / total,
            "calls": event.count / steps,
        }
        for event in found[:SHOWN]
    ]


def main(root: Path = Path("benchmarks"), *, number: int = 6) -> dict[str, Any]:
    steps = []
    rows = graph = None
    for name, recipe, data, protocol, settings in STEPS:
        train = protocols.plan(runs.load_data(data)[0], protocol).train
        graph_here = bipartite(train)
        ours = OurStep(recipe, graph_here, train, **settings)
        batches = ours.drawn(number)
        if rows is None:  # the roofline is gowalla's
            graph, first = graph_here, batches[0]
            rows = torch.cat([first.users, first.positives, first.negatives]).unique()
        steps.append(
            {"step": named(name, ours), "data": data, "phases": phases(ours, batches), "operators": operators(ours, batches)}
        )
    assert graph is not None
    assert rows is not None
    allowed = roofline.machine()
    lines = roofline.against(roofline.kernels(graph, rows), allowed)
    summary = {
        **{step["step"]: ", ".join(f"{name} {amount(s, 's')}" for name, s in step["phases"].items()) for step in steps},
        **{line["kernel"]: f"{amount(line['seconds'], 's')}, {line['times']:.1f} x its {line['by']} bound" for line in lines},
    }
    result = stamped("breakdown", machine=asdict(allowed), steps=steps, roofline=lines, summary=summary)
    rundir.write_json(root / "results" / "breakdown.json", result)
    return result
