"""The verb that compares runs."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from graphcl.cli import show
from graphcl.cli.options import Json


def compare(
    run: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN RUN ...",
            help="Runs on the same data and split, or folders of runs seed0, seed1, ...; the first is the reference.",
        ),
    ],
    metric: Annotated[list[str] | None, typer.Option(help="A per-user metric (default ndcg@20); may repeat.")] = None,
    test: Annotated[str, typer.Option(help="Over users: wilcoxon or permutation.")] = "wilcoxon",
    all_pairs: Annotated[bool, typer.Option("--all-pairs", help="Compare every pair.")] = False,
    mixed_protocols: Annotated[bool, typer.Option("--mixed-protocols", help="Warn of different protocols only.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw differences and intervals into a .png, .svg or .pdf.")] = None,
    as_json: Json = False,
) -> None:
    """How far runs are from the first one, over users and over seeds, with intervals and corrected tests."""
    from graphcl import compare as comparing
    from graphcl import forest

    if plot is not None:
        forest.check(plot)
    result = comparing.compare(run, metric or ["ndcg@20"], test=test, all_pairs=all_pairs, mixed_protocols=mixed_protocols)
    if plot is not None:
        forest.plot(result, plot)
    if as_json:
        print(json.dumps(result))
        return
    runs = {entry["run"]: entry for entry in result["runs"]}
    names = sorted({entry["protocol"] for entry in runs.values()})
    print(f"protocol {', '.join(names)}" + (f": {show.CHOSEN['test']}" if "as-published" in names else ""))
    for (key, reference), rows in itertools.groupby(result["comparisons"], lambda row: (row["metric"], row["reference"])):
        _table(key, runs[reference], list(rows), runs)
    print(
        f"p: {result['test']} over users, paired or Welch's t over seeds; Holm: corrected over all {len(result['comparisons'])}."
    )
    if plot is not None:
        print(f"Plot: {plot}", file=sys.stderr)


def _table(key: str, reference: dict[str, Any], rows: list[dict[str, Any]], runs: dict[str, Any]) -> None:
    left_out = f" ({rows[0]['left_out']} that not all have are left out)" if rows[0]["left_out"] else ""
    print(f"{key} of {rows[0]['users']} users{left_out}; reference {reference['run']}: {_mean(reference, key)}")
    tested = any(row["over_seeds"]["test"] for row in rows)
    lines = [["run", "mean", "difference", "relative", "95 % interval", "p", "Holm", "win/tie/loss"]]
    lines[0] += ["p over seeds", "Holm"] if tested else []
    notes = []
    for row in rows:
        entry, seeds = runs[row["run"]], row["over_seeds"]
        low, high = row["interval"]
        line = [
            row["run"], _mean(entry, key), f"{row['difference']:+.4f}",
            "-" if row["relative"] is None else f"{row['relative']:+.1%}", f"[{low:+.4f}, {high:+.4f}]",
            _p(row["p"]), _p(row["p_holm"]), f"{row['wins']}/{row['ties']}/{row['losses']}",
        ]  # fmt: skip
        if tested:
            line += [f"{_p(seeds['p'])} ({seeds['test']})" if seeds["test"] else "-", _p(seeds["p_holm"])]
        if seeds["note"] and max(len(entry["seeds"]), len(reference["seeds"])) > 1:
            notes.append(f"{row['run']}: no test over seeds: {seeds['note']}")
        lines.append(line)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for first, *others in lines:
        print("  ".join([first.ljust(widths[0]), *(text.rjust(width) for text, width in zip(others, widths[1:], strict=True))]))
    print("\n".join([*notes, ""]))


def _mean(entry: dict[str, Any], key: str) -> str:
    found = entry["metrics"][key]
    return f"{found['mean']:.4f}" + ("" if found["std"] is None else f" ± {found['std']:.4f}")


def _p(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"
