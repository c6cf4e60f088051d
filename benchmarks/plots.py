"""Plots of the results, one SVG for each data set and protocol: quality with spread, and quality against training time.

What a file shows is told by a digest inside it, so that a test can hold it against the results without drawing it again.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from benchmarks.rows import CHOSEN, CLUSTERS, PROBES, Row, kind_of, title
from graphcl.data.protocol import PROTOCOLS
from graphcl.recipes import RECIPES

COLOURS = {"trained": "#1f77b4", "floor": "#a0a0a0", "peer": "#e08030"}
LEAST_MINUTES = 0.01  # the closed forms' fractions of a second, on an axis of logarithms


def name(group: tuple[str, str, str]) -> str:
    return "-".join(part.replace("/", "-") for part in group if part) + ".svg"


def shown(members: list[Row]) -> dict[str, Any]:
    """All numbers of one plot: a bar for each row, and a curve for each seed (for what has no epochs, a point)."""
    bars, curves = [], []
    for row in members:
        if not row.seeds:
            continue
        label = row.label + ("" if row.told_seeds.isdigit() else f" ({row.told_seeds} seeds)")
        bars.append([label, row.kind, rounded(row.main), rounded(row.spread(row.shows.main)), row.published.get(row.shows.main)])
        curves += [[row.recipe, row.kind, points] for points in (curve(seed, row) for seed in row.seeds) if points]
    return {"bars": bars, "curves": curves}


def curve(seed: dict[str, Any], row: Row) -> list[list[float]]:
    """Minutes of training and the score on the part that chooses the epoch. A result without seconds for its epochs has them all equal."""
    train, key = seed["seconds"]["train"], row.shows.watched
    told = [point for point in seed["curve"] if key in point]
    if told:
        seconds = [point.get("seconds", train * point["epoch"] / seed["epochs"]) for point in told]
        return [[rounded(s / 60), rounded(point[key])] for s, point in zip(seconds, told, strict=True)]
    chosen = PROTOCOLS[row.config["protocol"]].selects_on
    score = seed["metrics"].get(chosen, {}).get(key) if seed["best_epoch"] is None else None
    return [] if score is None else [[rounded(train / 60), rounded(score)]]


def rounded(value: Any) -> Any:
    return None if value is None else round(value, 6)


def digest(data: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def digest_in(path: Path) -> str | None:
    """Of the numbers that a plot was drawn from; None where there is no plot."""
    found = re.search(r"numbers sha256:(\w+)", path.read_text()) if path.exists() else None
    return found[1] if found else None


def draw(group: tuple[str, str, str], members: list[Row], path: Path) -> None:
    """The same bytes for the same numbers and the same matplotlib: no date, ids from a fixed salt, text as text."""
    import matplotlib
    from matplotlib.figure import Figure

    data = shown(members)
    with matplotlib.rc_context({"svg.hashsalt": "graphcl", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(11, 1.4 + 0.3 * max(8, len(data["bars"]))), layout="constrained")
        left, right = figure.subplots(1, 2)
        label = kind_of(group[0]).metrics[kind_of(group[0]).main]
        draw_bars(left, data["bars"], label)
        draw_curves(right, data["curves"])
        watched = {id(PROBES): "macro-F1 on validation", id(CLUSTERS): "ACC after an epoch"}
        right.set_ylabel(watched.get(id(kind_of(group[0]))) or f"{label} on {CHOSEN[PROTOCOLS[group[1]].selects_on]}")
        figure.suptitle(title(group).replace("`", ""))
        path.parent.mkdir(exist_ok=True)
        about = {
            "Date": None,
            "Creator": None,
            "Title": title(group).replace("`", ""),
            "Description": f"numbers sha256:{digest(data)}",
        }
        figure.savefig(path, format="svg", metadata=about)


def draw_bars(axes: Any, bars: list[list[Any]], label: str) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    places = range(len(bars))[::-1]
    for place, (_, kind, mean, spread, published) in zip(places, bars, strict=True):
        axes.barh(place, mean, height=0.7, xerr=spread, color=COLOURS[kind], ecolor="black", capsize=2)
        if published is not None:
            axes.plot([published] * 2, [place - 0.45, place + 0.45], color="black", linewidth=2)
    axes.set_yticks(places, [f"{name}  {mean:.4f}" for name, _, mean, _, _ in bars])
    axes.set_xlabel(f"{label} on test; spread over seeds")
    kinds = {bar[1] for bar in bars}
    handles: list[Any] = [Patch(color=colour, label=kind) for kind, colour in COLOURS.items() if kind in kinds]
    if any(bar[4] is not None for bar in bars):
        handles.append(
            Line2D([], [], color="black", marker="|", linestyle="", markersize=10, markeredgewidth=2, label="published")
        )
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=4, frameon=False)


def draw_curves(axes: Any, curves: list[list[Any]]) -> None:
    known = list(RECIPES)  # so that a recipe has one colour everywhere
    named = set()
    for recipe, kind, points in curves:
        minutes, scores = zip(*points, strict=True)
        minutes = [max(each, LEAST_MINUTES) for each in minutes]
        number = known.index(recipe) if recipe in known else len(known)
        label = None if recipe in named else recipe
        named.add(recipe)
        if kind == "floor":
            axes.plot(minutes, scores, "osD^"[number % 4], color=COLOURS["floor"], label=label)
        else:
            style = ("-", "--")[number // 10 % 2]
            axes.plot(minutes, scores, style, marker=".", color=f"C{number % 10}", linewidth=1, markersize=3, label=label)
    axes.set_xscale("log")
    axes.set_xlabel(f"minutes of training (at least {LEAST_MINUTES:g})")
    axes.grid(alpha=0.3)
    if named:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, frameon=False)
