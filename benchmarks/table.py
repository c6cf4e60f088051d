"""Writes the README's table of measured results from ``benchmarks/results/*.json``.

python benchmarks/table.py          # rewrites README.md between its two marks
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- results: written by benchmarks/table.py -->", "<!-- end of results -->"
CHOSEN = {"valid": "validation", "test": "TEST, as papers do", None: "no epochs"}


def rows(root: Path = ROOT) -> list[dict[str, Any]]:
    """Every result of a configuration, by data set, protocol and quality."""
    found = [json.loads(path.read_text()) for path in sorted((root / "benchmarks" / "results").glob("*.json"))]
    found = [result for result in found if isinstance(result, dict) and "seeds" in result]
    return sorted(found, key=lambda r: (r["data"], r["protocol"], -r["summary"]["ndcg@20"]["mean"]))


def figure(summary: dict[str, Any], key: str) -> str:
    mean, spread = summary[key]["mean"], summary[key]["std"]
    return f"{mean:.4f}" + (f" ± {spread:.4f}" if spread else "")


def table(root: Path = ROOT) -> str:
    lines = [
        "| data | protocol | epoch chosen on | recipe | Recall@20 | NDCG@20 | published | seeds | epoch | training |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for result in rows(root):
        first, published = result["seeds"][0], result["published"]
        told = f"{published['recall@20']:.4f} / {published['ndcg@20']:.4f}" if published else "none"
        epochs = first["best_epoch"] if first["best_epoch"] is not None else "-"
        seconds = sum(seed["seconds"]["train"] for seed in result["seeds"]) / len(result["seeds"])
        lines.append(
            f"| {result['data']} | {result['protocol']} | {CHOSEN[first['selected_on']]} | `{result['recipe']}` | "
            f"{figure(result['summary'], 'recall@20')} | {figure(result['summary'], 'ndcg@20')} | {told} | "
            f"{len(result['seeds'])} | {epochs} | {seconds / 60:.1f} min |"
        )
    return "\n".join(lines)


def with_table(text: str, made: str) -> str:
    """Raises ValueError where the marks are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"README.md lacks the marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{made}\n{END}{after}"


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(with_table(readme.read_text(), table()))
