"""A LightGCN step here and in RecBole, in turns: ``make bench-recbole``.

RecBole needs older packages, so it runs in ``.venv-recbole`` as a process that makes one step
when asked for one. Its data are gowalla's pairs as atomic files in a temporary folder.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import OURS, ROOT, row, stamped, timed, told
from benchmarks.steps import OurStep
from graphcl import rundir, runs
from graphcl.data import protocol as protocols
from graphcl.graph import bipartite
from graphcl.integrations.peer import write_parts
from graphcl.interactions import Interactions
from graphcl.recipes import lightgcn

PYTHON = ROOT / ".venv-recbole" / "bin" / "python"


def compare(train: Interactions, test: Interactions, *, python: Path = PYTHON, repeats: int = 15) -> dict[str, Any]:
    """Median seconds of a step, and of a step with its share of the sampling, on both sides.

    Raises:
        FileNotFoundError: there is no environment with RecBole.
    """
    if not python.exists():
        raise FileNotFoundError(f"{python} is not there; make test-recbole creates the environment")
    graph = bipartite(train)
    ours = OurStep(lightgcn, graph, train)
    sampling = float(np.median([timed(lambda: ours.drawn(1)) for _ in range(3)])) / ours.epoch_steps
    batches = iter(ours.drawn(repeats + 2))
    taken: dict[str, list[float]] = {"ours": [], "step": [], "draw": []}
    with tempfile.TemporaryDirectory() as folder:
        # RecBole wants a validation part: the test part again, never looked at.
        write_parts(Path(folder), "log", {"train": train, "valid": test, "test": test})
        # It writes a log folder where it stands, so it stands in the temporary one. -P: the folder of a script stays
        # off the path.
        with subprocess.Popen(
            [python, "-P", ROOT / "benchmarks" / "recbole_peer.py", folder, "log"],
            cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as peer:  # fmt: skip
            assert peer.stdin is not None
            assert peer.stdout is not None
            about = _answer(peer.stdout)
            for turn in range(repeats + 2):  # two to warm up
                batch = next(batches)
                seconds = timed(lambda batch=batch: ours(batch))
                peer.stdin.write("\n")
                peer.stdin.flush()
                answer = _answer(peer.stdout)
                if turn > 1:
                    taken["ours"].append(seconds)
                    taken["step"].append(answer["step"])
                    taken["draw"].append(answer["draw"])
            peer.stdin.close()
    name = f"RecBole {about['recbole']}"
    mine, step = float(np.median(taken["ours"])), float(np.median(taken["step"]))
    drawn = float(np.median(np.add(taken["step"], taken["draw"])))
    rows = [
        row("LightGCN step, 3 layers, d 64, batch 2048", {OURS: mine, name: step}),
        row("the same with its share of the sampling", {OURS: mine + sampling, name: drawn}),
    ]
    return {"peer": about, "rows": rows}


def _answer(lines: Any) -> dict[str, Any]:
    """The next line of JSON; whatever else a library prints is passed over."""
    for line in lines:
        if line.startswith("{"):
            return json.loads(line)
    raise RuntimeError("the process with RecBole ended early; what it said stands above")


def main(root: Path = Path("benchmarks"), data: str = "gowalla") -> dict[str, Any]:
    plan = protocols.plan(runs.load_data(data)[0], "as-published")
    assert plan.test is not None
    found = compare(plan.train, plan.test)
    result = stamped("speed-recbole", data=data, **found, summary={line["what"]: told(line) for line in found["rows"]})
    rundir.write_json(root / "results" / "speed-recbole.json", result)
    return result
