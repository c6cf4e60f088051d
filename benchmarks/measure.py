"""How the programs measure: calls in turns, rows with what they should reach, and all that is needed to repeat a result."""

from __future__ import annotations

import datetime
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch

from graphcl import bench
from graphcl.versions import versions

ROOT = Path(__file__).resolve().parents[1]
OURS = "graphcl"


def timed(call: Callable[[], Any]) -> float:
    """Seconds of one call, with what it left to a CUDA device."""
    began = time.perf_counter()
    call()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def medians(calls: Mapping[str, Callable[[], Any]], repeats: int = 11) -> dict[str, float]:
    """Seconds of each, in turns so that a noisy neighbour meets all of them. A turn is an untimed call and then timed ones, up to
    three: in training a step follows its like, and finds its tables where that left them, not where a peer's swept through."""
    for call in calls.values():
        timed(call)
    taken: dict[str, list[float]] = {name: [] for name in calls}
    in_turn = min(3, repeats)
    for _ in range(-(-repeats // in_turn)):
        for name, call in calls.items():
            timed(call)
            taken[name] += [timed(call) for _ in range(in_turn)]
    return {name: float(np.median(values)) for name, values in taken.items()}


def row(
    what: str,
    values: Mapping[str, float],  # ours under OURS, then each peer's
    *,
    unit: str = "s",
    reach: Mapping[str, float] | None = None,  # peer -> how many times its value ours should be
    stretch: Mapping[str, float] | None = None,  # the same, as a hope
    limit: float | None = None,  # of our own value
    device: str = "cpu",
    note: str = "",
) -> dict[str, Any]:
    """One line of a result: peers' values over ours, and whether what was to be reached is."""
    ratios = {name: value / values[OURS] for name, value in values.items() if name != OURS}
    unknown = (set(reach or {}) | set(stretch or {})) - set(ratios)
    assert not unknown, f"{what}: no such peer: {', '.join(unknown)}"
    tests = [ratios[peer] >= ratio for peer, ratio in (reach or {}).items()]
    if limit is not None:
        tests.append(values[OURS] < limit)
    return {
        "what": what, "device": device, "unit": unit, "values": dict(values), "ratios": ratios, "reach": dict(reach or {}),
        "stretch": dict(stretch or {}), "limit": limit, "reached": all(tests) if tests else None, "note": note,
    }  # fmt: skip


def skipped(what: str, why: str) -> dict[str, Any]:
    """A row that could not be measured here."""
    return {"what": what, "skipped": why}


def told(line: Mapping[str, Any]) -> str:
    """A row in a few words."""
    if "skipped" in line:
        return f"skipped: {line['skipped']}"
    ratios = ", ".join(f"{ratio:.3g} x {peer}" for peer, ratio in line["ratios"].items())
    verdict = {True: ", reached", False: ", NOT reached", None: ""}[line["reached"]]
    return f"{amount(line['values'][OURS], line['unit'])}; {ratios}{verdict}"


def amount(value: float, unit: str) -> str:
    if unit != "s":
        return f"{value:,.0f} {unit}"
    return f"{value:.3g} s" if value >= 1 else f"{value * 1e3:.3g} ms"


def devices(wanted: str = "auto") -> list[str]:
    """Where the steps run: "auto" is the CPU, and CUDA where there is one.

    Raises:
        ValueError: a device that is unknown or not here.
    """
    here = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    if wanted == "auto":
        return here
    if wanted not in here:
        raise ValueError(f"device must be auto or one of {', '.join(here)}, got {wanted!r}")
    return [wanted]


def stamped(name: str, **found: Any) -> dict[str, Any]:
    """A result with its command, commit, versions, hardware and threads."""
    return {
        "name": name,
        "command": f"graphcl bench {name}",
        **found,
        "commit": bench.commit(),
        "date": datetime.date.today().isoformat(),
        "versions": versions("cuda" if torch.cuda.is_available() else "cpu"),
        "hardware": bench.hardware(),
        "threads": {"torch": torch.get_num_threads(), "numba": numba.get_num_threads()},
    }


def peak_gib() -> float:
    """Of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def elsewhere(*arguments: str, python: str = sys.executable) -> Any:
    """What a program prints last, as JSON, in a process of its own: its memory and its imports are nobody else's.

    Raises:
        RuntimeError: it failed; with the end of what it wrote.
    """
    done = subprocess.run([python, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])
