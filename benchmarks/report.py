"""Tables of speed, memory and scale from the programs' results, and how a text is filled with tables between its marks.

A result that is not there, or is older than the programs' present form, is said to be not measured yet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import OURS, amount

Made = Callable[[dict[str, Any]], str]


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows))


def about(result: dict[str, Any]) -> str:
    threads = result["threads"]
    return (
        f"{result['hardware']['cpu']}, {result['hardware']['cores']} cores, {threads['torch']} threads (torch) and "
        f"{threads['numba']} (numba), commit {result['commit']}, {result['date']}, torch {result['versions']['packages']['torch']}."
    )


def speed(result: dict[str, Any]) -> str:
    lines, notes = [], []
    for row in result["rows"]:
        if "skipped" in row:
            lines.append([row["what"], f"skipped: {row['skipped']}", "", "", ""])
            continue
        if row["note"]:
            notes.append(f"- {row['what']}: {row['note']}.")
        reach = [f"{ratio:g} x {peer}" for peer, ratio in row["reach"].items()]
        if row["limit"] is not None:
            reach.append(f"under {row['limit']:g} {row['unit']}")
        lines.append(
            [
                row["what"] + ("" if row["device"] == "cpu" else f" ({row['device']})"),
                amount(row["values"][OURS], row["unit"]),
                ", ".join(f"{ratio:.3g} x {peer}" for peer, ratio in row["ratios"].items()),
                ", ".join(reach),
                {True: "yes", False: "**no**", None: ""}[row["reached"]],
            ]
        )
    return "\n\n".join(
        part
        for part in (
            about(result),
            table(["what", "ours", "a peer's value over ours", "to reach", "reached"], lines),
            "\n".join(notes),
        )
        if part
    )


def taken_apart(result: dict[str, Any]) -> str:
    parts = [about(result)]
    for step in result["steps"]:
        rows = [[f"*{name}*", amount(seconds, "s"), ""] for name, seconds in step["phases"].items()]
        rows += [[f"`{o['operator']}`", amount(o["seconds"], "s"), f"{o['share']:.0%}"] for o in step["operators"]]
        parts.append(f"**{step['step']}**, {step['data']}")
        parts.append(table(["phase, then operators by their own time", "a step", "share"], rows))
    allowed = result["machine"]
    parts.append(
        f"**Roofline**: {allowed['memory'] / 1e9:.1f} GB/s in memory, {allowed['cache'] / 1e9:.1f} GB/s on a table's size, "
        f"{allowed['gemm'] / 1e9:.0f} GFLOP/s in a product. The bytes of each kernel: `roofline.py`."
    )
    rows = [
        [line["kernel"], amount(line["seconds"], "s"), amount(line["bound"], "s"), line["by"], f"{line['times']:.1f} x"]
        for line in result["roofline"]
    ]
    parts.append(table(["kernel", "takes", "bound", "by", "from it"], rows))
    return "\n\n".join(parts)


def scale(result: dict[str, Any]) -> str:
    rows = [
        [
            f"{size['interactions'] / 1e6:g}",
            f"{size['edges']:,}",
            *(amount(size[f"seconds_{key}"], "s") for key in ("read", "graph", "lightgcn", "xsimgcl", "embed", "rank")),
            f"{size['nanoseconds_per_edge_lightgcn']:.1f} / {size['nanoseconds_per_edge_xsimgcl']:.1f}",
            f"{size['gib_peak']:.1f} GiB",
        ]
        for size in result["sizes"]
    ]
    heads = ["million", "edges", "read", "graph", "LightGCN step", "XSimGCL step", "embed", "rank 1,000", "ns an edge", "peak"]
    said = [
        f"{name}: {line['nanoseconds_per_edge']:.2f} ns an edge, at most {line['largest_deviation']:.1%} off the line."
        for name, line in result["lines"].items()
        if line
    ]
    return "\n\n".join(part for part in (about(result), table(heads, rows), " ".join(said)) if part)


def ablation(result: dict[str, Any]) -> str:
    rows = [
        [
            line["what"],
            "" if line["weight"] is None else f"{line['weight']:g}",
            f"{line['recall@20']:.4f}",
            f"{line['ndcg@20']:.4f}",
        ]
        for line in result["rows"]
    ]
    return f"**{result['data']}**, seed 0: {about(result)}\n\n" + table(["what ranks", "weight", "Recall@20", "NDCG@20"], rows)


def hetero(result: dict[str, Any]) -> str:
    steps, epochs, failed = [], [], []
    for line in result["cases"]:
        if "failed" in line:
            failed.append(
                f"- {' '.join(line['case'])}: {line['failed'].strip().splitlines()[-1] if line['failed'].strip() else 'ended without a word'}."
            )
        elif line["form"] == "batches":
            epochs.append(
                [
                    f"{line['targets']:,}",
                    amount(line["prepared"], "s"),
                    str(line["steps"]),
                    amount(line["seconds"], "s"),
                    f"{line['peak_gb']:.1f} GiB",
                ]
            )
        else:
            steps.append(
                [line["recipe"], f"{line['targets']:,}", line["form"], amount(line["seconds"], "s"), f"{line['peak_gb']:.2f} GiB"]
            )
    told = "; ".join(
        f"{recipe}: the dense step takes {found['dense / graphcl']:.3g} times ours at {found['targets']:,} targets"
        for recipe, found in result["summary"].items()
        if recipe != "epoch"
    )
    parts = [about(result), table(["recipe", "targets", "form", "a step", "peak"], steps), told + "." if told else ""]
    parts.append(table(["targets", "preparation", "steps", "an epoch", "peak"], epochs) if epochs else "")
    return "\n\n".join(part for part in (*parts, "\n".join(failed)) if part)


def negatives(result: dict[str, Any]) -> str:
    def spread_of(line: dict[str, Any]) -> str:
        return "none" if line["spread"] is None else f"{line['spread']:g}"

    parts = [about(result)]
    for part, said, value in (
        ("error", "Log-sum-exp minus the exact one, nats: mean (std where drawn)", _error),
        ("gradient", "Gradient of its mean by the table against the exact one: cosine / length", lambda v: f"{v['cosine']:.3f} / {v['length']:.2f}"),
    ):  # fmt: skip
        names = [name for name in result[part][0] if name not in ("spread", "temperature")] if result[part] else []
        rows = [[spread_of(line), f"{line['temperature']:g}", *(value(line[name]) for name in names)] for line in result[part]]
        parts += [f"{said}.", table(["spread", "t", *names], rows)]
    if result["real"]:
        heads = list(result["real"][0])
        rows = [
            [
                line[head] if head == "data" else f"{line[head]:+.3f}" if head != "temperature" else f"{line[head]:g}"
                for head in heads
            ]
            for line in result["real"]
        ]
        parts += ["The same on features of attributed graphs (SVD 64, two hops, unit length).", table(heads, rows)]
    if result["time"]:
        names = list(result["time"][0]["seconds"])
        rows = [
            [f"{line['keys']:,}", *(amount(line["seconds"][name], "s") for name in names), f"{line['seconds']['exact'] / line['seconds']['clusters']:.3g}", amount(line["kmeans"], "s")]
            for line in result["time"]
        ]  # fmt: skip
        parts += [
            "Forward and backward, 4,096 anchors, d 64, sqrt(N) clusters; k-means is run once an epoch.",
            table(["keys", *names, "exact / clusters", "k-means"], rows),
        ]
    if result["step"]:
        later = result.get("step_again")
        again = f"; threads: {later['threads']['torch']}, commit {later['commit']}, {later['date']}" if later else ""
        names = list(result["step"][0]["seconds"])
        rows = [
            [line["data"], *(amount(line["seconds"][name], "s") for name in names), f"{line['seconds']['exact'] / line['seconds']['clusters']:.3g}"]
            for line in result["step"]
        ]  # fmt: skip
        parts += [
            f"A whole training step of LightGCL (width 64, batch 4,096), sqrt(N) clusters{again}.",
            table(["data", *names, "exact / clusters"], rows),
        ]
    if result["pamc"]:
        rows = [
            [
                line["recipe"],
                f"{line['nodes']:,}",
                amount(line["prepared"], "s"),
                amount(line["seconds"], "s"),
                f"{line['peak_gib']:.1f} GiB",
            ]
            for line in result["pamc"]
        ]
        parts += [
            "A step of PamC, and of its exact counterpart SCGC, over all nodes of a made graph (10 edges a node, 64 features, layers 500-500-2000-10).",
            table(["recipe", "nodes", "preparation", "a step", "peak"], rows),
        ]
    if result["memory"]:
        told = ", ".join(f"{line['strategy']} {line['mb']:,.0f} MiB" for line in result["memory"])
        parts.append(f"Memory of a step above the tables, gradients included, {result['memory'][0]['keys']:,} keys: {told}.")
    return "\n\n".join(parts)


def _error(value: dict[str, float]) -> str:
    return f"{value['mean']:+.3f} ({value['std']:.2f})"


ABLATED = ("gowalla", "ml-1m", "yelp2018")
TABLES: dict[str, Made] = {
    "speed": speed, "speed-recbole": speed, "breakdown": taken_apart, "scale": scale, "hetero": hetero, "negatives": negatives, "sequential": speed, **{f"ablation-{data}": ablation for data in ABLATED},
}  # fmt: skip


def speeds(results: Path) -> dict[str, str]:
    """The tables by name."""
    made = {}
    for name, make in TABLES.items():
        path = results / f"{name}.json"
        result = json.loads(path.read_text()) if path.exists() else {}
        made[name] = make(result) if "threads" in result else "Not measured yet in this form."
    return made


def filled(text: str, tables: Mapping[str, str]) -> str:
    """The text with what stands between each pair of marks made anew.

    Raises:
        ValueError: a pair of marks is missing.
    """
    for name, made in tables.items():
        begin, end = f"<!-- {name}: written by benchmarks/table.py -->", f"<!-- end of {name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"the marks {begin} and {end} are missing")
        text = f"{before}{begin}\n{made}\n{end}{after}"
    return text
