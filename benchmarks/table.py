"""Writes the tables of README.md, the whole of benchmarks/README.md between its marks, and the plots, from ``configs/`` and ``results/``:

python -m benchmarks.table

What stands there already is never read: everything follows from the files that are there.
"""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import cards, plots, report
from benchmarks.report import filled, table
from benchmarks.rows import RANKINGS, ROOT, Row, about, groups, kind_of, rows, title
from graphcl.data.protocol import PROTOCOLS
from graphcl.metrics import MASKED


def heads(data: str) -> list[str]:
    return [
        "data", "protocol", "epoch chosen on", "recipe", *kind_of(data).metrics.values(), "published", "seeds", "epoch", "minutes", "threads",
    ]  # fmt: skip


def cells(row: Row, *, folder: str = "", source: bool = False) -> list[str]:
    """A row of a table; ``folder`` is where the text that holds it finds the results."""
    given = [key for key in row.shows.metrics if key in row.published]
    named = len(given) < len(row.shows.metrics)  # else they stand in the order of the columns
    published = " / ".join((f"{row.shows.metrics[key]} " if named else "") + f"{row.published[key]:.4f}" for key in given)
    if published and (source or "of" in row.published):  # whose it is, where it is not the row's own method's
        published += f" ({row.published['source' if source else 'of']})"
    said = [row.config["data"], row.config["protocol"]]
    if row.result is None:
        return [
            *said,
            "",
            f"`{row.recipe}`",
            "not measured yet",
            *[""] * (len(row.shows.metrics) - 1),
            published,
            row.told_seeds,
            "",
            "",
            "",
        ]
    linked = f"[`{row.label}`]({folder}results/{row.name}.json)"
    return [
        *said, row.chosen_on, linked, *(row.figure(key) for key in row.shows.metrics), published,
        row.told_seeds, row.epochs, f"{row.minutes:.1f}", row.threads,
    ]  # fmt: skip


def headline(found: list[Row]) -> str:
    """For each group what was trained and the best of the floor; the rest of the floor in a line below."""
    parts = []
    for group, members in groups(found).items():
        measured = [row for row in members if row.result]
        if not measured:
            continue
        floor = [row for row in measured if row.kind == "floor"]
        kept = [row for row in measured if row.kind != "floor" or row is floor[0]]
        below = ", ".join(
            f"`{row.label}` {' / '.join(f'{row.mean(key):.4f}' for key in row.shows.metrics if MASKED not in key)}"
            for row in floor[1:]
        )
        told = f"**{title(group)}**: {about(group)}."
        if floor:
            told += f" Floor: `{floor[0].label}` in the table" + (f"; {below}." if below else ".")
        parts += [told, table(heads(group[0]), [cells(row, folder="benchmarks/") for row in kept])]
    return "\n\n".join(parts)


def compared(results: Path) -> str:
    """A line for each comparison in ``results/compare-DATA.json``, which is what ``graphcl compare --json`` prints."""
    lines = []
    for path in sorted(results.glob("compare-*.json")):
        held = json.loads(path.read_text())
        runs = {run["run"]: run for run in held["runs"]}
        for each in held["comparisons"]:
            ours, other = runs[each["run"]], runs[each["reference"]]
            low, high = each["interval"]
            lines.append(
                f"- {path.stem.removeprefix('compare-')}, `{ours['protocol']}`: {RANKINGS.metrics[each['metric']]}"
                f" of `{ours['recipe']}` ({len(ours['seeds'])} seeds) less that of `{other['recipe']}`: "
                f"{each['difference']:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}, {held['test']} p = {each['p_holm']:.2g} (Holm)."
            )
    return "\n".join(["Over users, paired, the mean over seeds for each (`graphcl compare`):", "", *lines]) if lines else ""


def quality(found: list[Row]) -> str:
    """Every row with its source and its note, and the plot of each group."""
    parts = []
    for group, members in groups(found).items():
        parts += [
            f"### {title(group)}",
            f"Protocol: {about(group)}.",
            table(heads(group[0]), [cells(row, source=True) for row in members]),
        ]
        parts.append("\n".join(f"- {row.name}: {row.config['note']}." for row in members if row.config.get("note")))
        if any(row.seeds for row in members):
            parts.append(
                f"![{kind_of(group[0]).metrics[kind_of(group[0]).main]} of each recipe, and against minutes of training](plots/{plots.name(group)})"
            )
    return "\n\n".join(part for part in parts if part)


def protocols() -> str:
    lines = [[f"`{name}`", each.about, each.used_by] for name, each in PROTOCOLS.items()]
    return table(["protocol", "what", "used by"], lines)


def readme(text: str, found: list[Row], results: Path = ROOT / "benchmarks" / "results") -> str:
    told = "\n\n".join(part for part in (headline(found), compared(results)) if part)
    return filled(text, {"results": told, "protocols": protocols()})


def page(text: str, found: list[Row], results: Path = ROOT / "benchmarks" / "results") -> str:
    return filled(text, {"quality": quality(found), "cards": cards.page(cards.cards(found)), **report.speeds(results)})


def wanted_plots(found: list[Row]) -> dict[str, tuple[tuple[str, str, str], list[Row]]]:
    """What each file in ``plots/`` is drawn from."""
    return {plots.name(group): (group, members) for group, members in groups(found).items() if any(row.seeds for row in members)}


def main(root: Path = ROOT) -> None:
    found = rows(root)
    folder = root / "benchmarks"
    (root / "README.md").write_text(readme((root / "README.md").read_text(), found, folder / "results"))
    (folder / "README.md").write_text(page((folder / "README.md").read_text(), found, folder / "results"))
    wanted = wanted_plots(found)
    for name, (group, members) in wanted.items():
        plots.draw(group, members, folder / "plots" / name)
    for path in (folder / "plots").glob("*.svg"):
        if path.name not in wanted:
            path.unlink()


if __name__ == "__main__":
    main()
