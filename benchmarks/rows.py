"""Configurations with their results, in the order and the groups of the tables. A result may be missing, or have fewer seeds yet than
its configuration asks for."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from graphcl.bench import FLOOR, SEQUENCE_FLOOR, read_config, seeds_stamped
from graphcl.data.protocol import PROTOCOLS
from graphcl.metrics import MASKED

ROOT = Path(__file__).resolve().parents[1]
CHOSEN = {
    "valid": "validation",
    "test": "TEST, as papers do",
    "loss": "training loss",
    "modularity": "modularity",
    None: "no epochs",
}


@dataclass(frozen=True)
class Kind:
    """What the tables of one kind of data show."""

    metrics: dict[str, str]  # key -> how it is called
    main: str  # the metric that orders rows and is plotted
    watched: str  # the one that chose the epoch, in a curve


RANKINGS = Kind({"recall@20": "Recall@20", "ndcg@20": "NDCG@20"}, "ndcg@20", "ndcg@20")
PROBES = Kind({f"ma_f1@{rate}": f"Ma-F1, {rate} labels a class" for rate in (20, 40, 60)}, "ma_f1@20", "ma_f1")
CLUSTERS = Kind({"acc": "ACC", "nmi": "NMI", "ari": "ARI", "f1": "F1"}, "acc", "acc")
_NEXT = {f"{name}@{k}": f"{name.upper()}@{k}" for k in (10, 20) for name in ("hr", "ndcg")}
SEQUENCES = Kind(
    {**_NEXT, **{f"{key}/{MASKED}": f"{name} masked" for key, name in _NEXT.items()}}, "ndcg@10", "ndcg@10"
)  # without a word seen items are kept in the ranking
KINDS = {"hetero": PROBES, "attributed": CLUSTERS, "sequential": SEQUENCES}


def kind_of(data: str) -> Kind:
    return KINDS.get(data.partition("/")[0], RANKINGS)


@dataclass(frozen=True)
class Row:
    """One benchmark: what was asked, and what came out of it so far."""

    name: str
    config: dict[str, Any]
    result: dict[str, Any] | None
    apart: frozenset[str] = frozenset()  # settings in which rows of this recipe and group differ, but for how long they train

    @property
    def group(self) -> tuple[str, str, str]:
        """Rows that may be compared: data, protocol, and the split where it is not the data set's own."""
        return self.config["data"], self.config["protocol"], self.config.get("split") or ""

    @property
    def recipe(self) -> str:
        return self.config["recipe"]

    @property
    def label(self) -> str:
        """The recipe with its kind of negatives and the settings that tell it from others: of the floor all that are not its own."""
        given = self.config["settings"]
        shown = [key for key in given if self.kind == "floor" or key in self.apart or key == "negatives"]
        return " ".join([self.recipe, *(f"{key}={given[key]}" if len(str(given[key])) <= 20 else key for key in shown)])

    @property
    def kind(self) -> str:
        """One of "floor" (the baselines without training that every table has), "peer" (another toolkit's model) and "trained"."""
        floor = (*FLOOR, *SEQUENCE_FLOOR, "svd_hops", "svd_kmeans")
        return "floor" if self.recipe in floor else "peer" if self.config.get("peer") else "trained"

    @property
    def shows(self) -> Kind:
        return kind_of(self.config["data"])

    @property
    def main(self) -> float:
        return self.mean(self.shows.main)

    @property
    def published(self) -> dict[str, Any]:
        return self.config.get("published") or {}

    @property
    def seeds(self) -> list[dict[str, Any]]:
        return seeds_stamped(self.result or {})

    @property
    def told_seeds(self) -> str:
        done, asked = len(self.seeds), len(self.config["seeds"])
        return str(done) if done == asked else f"{done} of {asked}"

    def mean(self, key: str) -> float:
        return 0.0 if self.result is None else self.result["summary"][key]["mean"]

    def spread(self, key: str) -> float | None:
        """Standard deviation over seeds; None for a single one."""
        return self.result["summary"][key]["std"] if self.result and len(self.seeds) > 1 else None

    def figure(self, key: str) -> str:
        spread = self.spread(key)
        return f"{self.mean(key):.4f}" + ("" if spread is None else f" ± {spread:.4f}")

    @property
    def chosen_on(self) -> str:
        return CHOSEN[self.seeds[0]["selected_on"]]

    @property
    def epochs(self) -> str:
        """The chosen epochs of all seeds, over the most that were trained."""
        best = [seed["best_epoch"] for seed in self.seeds if seed["best_epoch"] is not None]
        if not best:
            return "-"
        low, high = min(best), max(best)
        return f"{low}{'' if low == high else f'-{high}'} of {max(seed['epochs'] for seed in self.seeds)}"

    @property
    def minutes(self) -> float:
        """Of training, mean over the seeds that were measured on the last one's processor."""
        cpus = [(seed.get("hardware") or {}).get("cpu") for seed in self.seeds]
        found = [seed["seconds"]["train"] for seed, cpu in zip(self.seeds, cpus, strict=True) if cpu == cpus[-1]]
        return sum(found) / len(found) / 60

    @property
    def threads(self) -> str:
        """Of torch and, where it is known and another number, of numba; those of all seeds."""
        found = set()
        for seed in self.seeds:
            each = seed.get("threads") or {"torch": seed["versions"].get("threads")}  # before seeds kept their own
            torch, numba = each.get("torch"), each.get("numba")
            found.add(f"{torch or '?'}" + ("" if numba in (None, torch) else f" / {numba}"))
        return ", ".join(sorted(found))


def rows(root: Path = ROOT) -> list[Row]:
    """Every configuration, by group and quality; what has no result yet comes last in its group."""
    folder = root / "benchmarks"
    found = []
    for path in sorted((folder / "configs").glob("*.json")):
        result = folder / "results" / path.name
        found.append(Row(path.stem, read_config(path), json.loads(result.read_text()) if result.exists() else None))
    alike: dict[Any, list[dict[str, Any]]] = {}
    for row in found:
        alike.setdefault((row.group, row.recipe), []).append(row.config["settings"])
    found = [replace(row, apart=_apart(alike[row.group, row.recipe])) for row in found]
    return sorted(found, key=lambda row: (row.group, -row.main, row.name))


def _apart(settings: list[dict[str, Any]]) -> frozenset[str]:
    keys = {key for some in settings for key in some} - {"epochs", "patience", "evaluate_every"}
    return frozenset(key for key in keys if any(some.get(key) != settings[0].get(key) for some in settings))


def groups(found: list[Row]) -> dict[tuple[str, str, str], list[Row]]:
    return {group: list(members) for group, members in groupby(found, key=lambda row: row.group)}


def title(group: tuple[str, str, str]) -> str:
    data, protocol, split = group
    return f"{data}, `{protocol}`" + (f", split `{split}`" if split else "")


def about(group: tuple[str, str, str]) -> str:
    if kind_of(group[0]) is PROBES:
        return "trained without labels; logistic regressions on the frozen embedding, 50 a label rate; spread over training seeds"
    if kind_of(group[0]) is CLUSTERS:
        told = (
            "each metric's MAXIMUM OVER EPOCHS AGAINST THE LABELS, as papers do"
            if group[1] == "as-published"
            else "no label chooses the epoch; the floor's settings, one for all sets, were found by looking at labels, "
            "those of PamC's release, which the rows of pamc and scgc take, differ by set and may have been"
        )
        return f"trained without labels, {told}; as many clusters as classes; spread over training seeds"
    if group[2] == "leave_one_out" or kind_of(group[0]) is SEQUENCES:
        told = "seen items stay in the ranking" if group[2] else "ties count against the target"
        return f"each user's last item among all items, from all before it; select on the last but one; {told}"
    return PROTOCOLS[group[1]].about
