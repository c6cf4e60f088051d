"""Forest plots of comparisons."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from graphcl import rundir
from graphcl.data.source import expanded

SUFFIXES = (".png", ".svg", ".pdf")


def plot(result: Mapping[str, Any], path: str | Path) -> None:
    """A forest plot of a comparison: differences with their intervals, one panel for each metric.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: a suffix other than .png, .svg or .pdf.
    """
    path, figures = check(path)
    rows = result["comparisons"]
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    shared = os.path.commonpath([os.path.dirname(os.path.abspath(run["run"])) for run in result["runs"]])
    figure = figures(figsize=(7, 0.9 * len(metrics) + 0.35 * len(rows)), layout="constrained")
    for axes, metric in zip(figure.subplots(len(metrics), squeeze=False)[:, 0], metrics, strict=True):
        shown = [row for row in rows if row["metric"] == metric][::-1]
        middle = np.array([row["difference"] for row in shown])
        low, high = np.array([row["interval"] for row in shown]).T
        axes.errorbar(middle, range(len(shown)), xerr=np.abs([middle - low, high - middle]), fmt="o", color="black", capsize=3)
        axes.locator_params(axis="x", nbins=6)
        axes.axvline(0, color="grey", linewidth=0.8)
        names = [[os.path.relpath(row[key], shared) for key in ("run", "reference")] for row in shown]
        axes.set_yticks(range(len(shown)), [" against ".join(pair) for pair in names])
        axes.set_ylim(-0.5, len(shown) - 0.5)
        axes.set_xlabel(f"difference in {metric}, 95 % interval over {shown[0]['users']} users")
    rundir.atomically(path, lambda part: figure.savefig(part, format=path.suffix[1:]))


def check(path: str | Path) -> tuple[Path, Any]:
    """The path, and matplotlib's figure; before the work, so that it isn't lost to a wrong suffix. Raises as ``plot``."""
    path = expanded(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"a plot is written as {', '.join(SUFFIXES)}, not as {path.name!r}")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("a plot needs matplotlib: pip install 'graphcl[report]'") from None
    return path, Figure
