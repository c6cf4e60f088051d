"""How far the resident set grows in one LightGCL step, over what stands before it: ``python -m benchmarks.memory ours|peer DATA``.

A step on a few triples comes first, so that parameters, gradient, Adam's state and compiled code are there already; what it
freed is given back to the system. Needs Linux, whose kernel keeps a peak that can be set back.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.peers import TorchStep, copied
from benchmarks.steps import OurStep
from graphcl import runs
from graphcl.contracts import Batch
from graphcl.data import protocol as protocols
from graphcl.graph import bipartite
from graphcl.recipes import lightgcl


def resident(field: str) -> int:
    """Bytes of VmRSS (now) or VmHWM (the peak)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def growth(call: Callable[[], Any]) -> int:
    """Bytes by which the peak of the resident set during the call stands above its size before."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident("VmRSS")
    call()
    return resident("VmHWM") - before


def main(side: str, data: str) -> dict[str, Any]:
    train = protocols.plan(runs.load_data(data)[0], "valid").train
    graph = bipartite(train)
    ours = OurStep(lightgcl, graph, train, svd="exact")
    (batch,) = ours.drawn(1)
    step: Callable[[Batch], Any] = ours
    if side == "peer":
        config = ours.config
        loss = peers.lightgcl(peers.times(peers.coo(graph)), graph, config)
        step = TorchStep(copied(ours.table), loss, config.learning_rate)
        del ours
    few = Batch(batch.users[:8], batch.positives[:8], batch.negatives[:8])
    step(few)
    step(few)
    return {"mb": growth(lambda: step(batch)) / 1e6}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
