"""Paired comparisons of runs: over users, who are ranked by each run, and over seeds."""

from __future__ import annotations

import inspect
import itertools
import re
import warnings
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from graphcl.data.nearest import nearest
from graphcl.data.source import expanded
from graphcl.metrics import parse
from graphcl.run import Run

TESTS = ("wilcoxon", "permutation")
_RESAMPLED = 2**22  # values that are resampled at a time
_DIGITS = 12  # after the point; beyond, differences are rounding: 3/5 - 2/5 and 4/5 - 3/5 are equal


class Group(NamedTuple):
    """Runs of one method that differ by their seed alone; or a single run."""

    path: Path
    runs: tuple[Run, ...]

    @property
    def config(self) -> dict[str, Any]:
        return self.runs[0].config

    @property
    def seeds(self) -> list[int]:
        return [run.config["seed"] for run in self.runs]


def compare(
    paths: Sequence[str | Path],
    metrics: Sequence[str] = ("ndcg@20",),
    *,
    test: str = "wilcoxon",
    all_pairs: bool = False,
    mixed_protocols: bool = False,
    samples: int = 9999,
    seed: int = 0,
) -> dict[str, Any]:
    """Every run against the first one (``all_pairs``: against every earlier one), on the users that all of them ranked.

    A path is a run's directory, or a folder of runs ``seed0``, ``seed1``, ...: one method, and a user's value is the mean over its
    seeds. Each comparison holds, as plain values:

    * ``difference`` of the means over users, ``relative`` to the reference's mean, and a 95 % percentile ``interval`` by bootstrap
      over users, pairs kept together;
    * ``p``, two-sided: Wilcoxon's signed-rank test without ties, or a sign-flip permutation test of the mean. ``p_holm`` is
      corrected over all comparisons of all metrics. Ranks and means may disagree: many small wins against few large losses;
    * ``wins``, ``ties``, ``losses`` in users;
    * ``over_seeds``: a t-test of the seeds' means, by seed where both have the same (``paired``), else Welch's, and its ``p_holm``
      over those; ``note`` says why there is none. Signed ranks would be no test here: their p is 2^(1-n) or more, .25 for 3 seeds.

    Users say whether the difference would hold for other people, seeds whether it would hold for another training run.

    Raises:
        ValueError: fewer than two runs, one given twice, a folder without finished runs, different data or split, different
            protocols (which mask different items; ``mixed_protocols`` warns instead), a metric not held for each user.
    """
    if test not in TESTS:
        raise ValueError(f"unknown test {test!r}{nearest(test, TESTS)}; known: {', '.join(TESTS)}")
    keys = list(dict.fromkeys(parse(metric).key for metric in metrics))
    groups = [group(path) for path in paths]
    _check(groups, mixed_protocols)
    about: list[dict[str, Any]] = [
        {"run": str(g.path), "recipe": g.config["recipe"], "protocol": g.config["protocol"], "seeds": g.seeds, "metrics": {}}
        for g in groups
    ]
    pairs = list(itertools.combinations(range(len(groups)), 2)) if all_pairs else [(0, n) for n in range(1, len(groups))]
    found = []
    for key in keys:
        tables, left_out = _values(groups, key)
        for entry, table in zip(about, tables, strict=True):
            means = table.mean(axis=0)
            entry["metrics"][key] = {"mean": float(means.mean()), "std": float(means.std(ddof=1)) if len(means) > 1 else None}
        for first, second in pairs:
            difference = np.round(tables[second].mean(axis=1) - tables[first].mean(axis=1), _DIGITS)
            reference = about[first]["metrics"][key]["mean"]
            found.append(
                {
                    "metric": key, "run": str(groups[second].path), "reference": str(groups[first].path),
                    "users": len(difference), "left_out": left_out,
                    "mean": about[second]["metrics"][key]["mean"], "reference_mean": reference,
                    "difference": float(difference.mean()),
                    "relative": float(difference.mean() / reference) if reference else None,
                    "interval": interval(difference, samples, seed),
                    "p": p_value(difference, test, samples, seed),
                    "wins": int((difference > 0).sum()), "ties": int((difference == 0).sum()),
                    "losses": int((difference < 0).sum()),
                    "over_seeds": over_seeds(_by_seed(groups[second], tables[second]), _by_seed(groups[first], tables[first])),
                }
            )  # fmt: skip
    for part in (found, [c["over_seeds"] for c in found if c["over_seeds"]["p"] is not None]):
        for entry, corrected in zip(part, holm([entry["p"] for entry in part]), strict=True):
            entry["p_holm"] = corrected
    return {"test": test, "samples": samples, "confidence": 0.95, "runs": about, "comparisons": found}


# --- runs -------------------------------------------------------------------------------------------------------------------


def group(path: str | Path) -> Group:
    """A run, or the finished runs of a folder in order of seeds; a warning names those that have not finished.

    Raises:
        ValueError: neither a run nor a folder of runs, or runs that differ by more than their seed.
        FileNotFoundError: nothing is there.
    """
    path = expanded(path)
    if (path / "config.json").exists() or not path.is_dir():
        return Group(path, (Run(path),))
    held = [each for each in path.iterdir() if re.fullmatch(r"seed\d+", each.name) and (each / "config.json").exists()]
    if not held:
        raise ValueError(f"{path} is neither a run nor a folder of runs seed0, seed1, ...")
    finished = [each for each in held if (each / "result.json").exists()]
    missing = ", ".join(sorted(each.name for each in set(held) - set(finished)))
    if not finished:
        raise ValueError(f"{path} holds no finished run ({missing})")
    if missing:
        warnings.warn(f"{path}: {missing} has not finished and is left out", stacklevel=3)
    runs = sorted(map(Run, finished), key=lambda run: run.config["seed"])
    for run in runs[1:]:
        for key in ("recipe", "settings", "protocol", "fingerprint"):
            if run.config[key] != runs[0].config[key]:
                raise ValueError(f"{run.path} and {runs[0].path} differ in {key}, so they are no seeds of one method")
    found = Group(path, tuple(runs))
    if len(set(found.seeds)) < len(runs):
        raise ValueError(f"{path} holds runs of the same seed: {', '.join(map(str, found.seeds))}")
    return found


def _check(groups: Sequence[Group], mixed_protocols: bool) -> None:
    if len(groups) < 2:
        raise ValueError("compare needs two runs or more")
    places: set[Path] = set()
    for run in (run for g in groups for run in g.runs):
        if run.path.resolve() in places:
            raise ValueError(f"{run.path} is given twice")
        places.add(run.path.resolve())
    first = groups[0]
    for other in groups[1:]:
        if other.config["fingerprint"] != first.config["fingerprint"]:
            raise ValueError(f"{other.path} and {first.path} were not evaluated on the same data and split")
    if len({g.config["protocol"] for g in groups}) > 1:
        told = "runs of different protocols: " + ", ".join(f"{g.path} ({g.config['protocol']})" for g in groups)
        if not mixed_protocols:
            raise ValueError(f"{told}; they train on or mask different items (--mixed-protocols compares them nevertheless)")
        warnings.warn(f"{told}; differences are of protocols too", stacklevel=3)


def _values(groups: Sequence[Group], key: str) -> tuple[list[np.ndarray], int]:
    """For each group the values of the users that all have, [users, seeds], and how many users only some have."""
    columns = [[_column(run, key) for run in g.runs] for g in groups]
    each = [column.index for group in columns for column in group]
    common = reduce(lambda a, b: a.intersection(b, sort=False), each)
    if not len(common):
        raise ValueError(f"no user has a value of {key!r} in all of the runs")
    tables = [np.stack([column.loc[common].to_numpy(np.float64) for column in group], axis=1) for group in columns]
    return tables, len(reduce(lambda a, b: a.union(b, sort=False), each)) - len(common)


def _column(run: Run, key: str) -> pd.Series:
    path = run.path / "per_user.parquet"
    if not path.exists():
        _ = run.result  # says so where the run is unfinished
        raise ValueError(f"{run.path} holds no metrics for each user")
    frame = pd.read_parquet(path).set_index("user")
    if key not in frame:
        raise ValueError(f"{run.path} holds no {key!r} for each user{nearest(key, frame.columns)}")
    return frame[key].dropna()


def _by_seed(group: Group, table: np.ndarray) -> dict[int, float]:
    return dict(zip(group.seeds, table.mean(axis=0).tolist(), strict=True))


# --- statistics -------------------------------------------------------------------------------------------------------------


def interval(difference: np.ndarray, samples: int, seed: int) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean, [users]; a few samples at a time, for memory."""
    from scipy.stats import bootstrap

    if np.ptp(difference) == 0:  # where all users differ by the same
        return float(difference[0]), float(difference[0])
    named = "rng" if "rng" in inspect.signature(bootstrap).parameters else "random_state"  # before SciPy 1.15
    found = bootstrap(
        (difference,), np.mean, n_resamples=samples, batch=max(1, _RESAMPLED // len(difference)), method="percentile",
        **{named: np.random.default_rng(seed)},
    )  # fmt: skip
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def p_value(difference: np.ndarray, test: str, samples: int, seed: int) -> float:
    """Two-sided, of differences that are symmetric around 0 (Wilcoxon), or whose signs are chance (permutation), [users]."""
    from scipy.stats import monte_carlo_test, permutation_test, wilcoxon

    def total(x: np.ndarray, axis: int) -> np.ndarray:
        return x.sum(axis=axis)

    untied = difference[difference != 0]  # a tie has neither rank nor sign
    if not len(untied):
        return 1.0
    if test == "wilcoxon":
        return float(wilcoxon(untied).pvalue)
    if 2 ** len(untied) <= samples:  # every choice of signs
        return float(permutation_test((untied,), total, permutation_type="samples", vectorized=True, n_resamples=samples).pvalue)
    # Drawn signs. permutation_test draws the same, one user's at a time, which takes ten times as long.
    rng = np.random.default_rng(seed)
    found = monte_carlo_test(
        untied, lambda size: untied * (2.0 * rng.integers(0, 2, size, dtype=np.int8) - 1), total,
        vectorized=True, n_resamples=samples, batch=max(1, _RESAMPLED // len(untied)),
    )  # fmt: skip
    return float(found.pvalue)


def over_seeds(run: Mapping[int, float], reference: Mapping[int, float]) -> dict[str, Any]:
    """A two-sided t-test of means by seed."""
    from scipy.stats import ttest_ind, ttest_rel

    result: dict[str, Any] = {"test": None, "p": None, "p_holm": None, "note": ""}
    if min(len(run), len(reference)) < 2:
        return {**result, "note": f"needs 2 seeds of each, there are {len(run)} and {len(reference)}"}
    paired = run.keys() == reference.keys()
    a = np.array([run[seed] for seed in sorted(run)])
    b = np.array([reference[seed] for seed in sorted(reference)])
    spread = np.ptp(a - b) if paired else max(np.ptp(a), np.ptp(b))
    if spread < 10**-_DIGITS:
        return {**result, "note": "the seeds do not differ"}
    found = ttest_rel(a, b) if paired else ttest_ind(a, b, equal_var=False)
    return {**result, "test": "paired" if paired else "welch", "p": float(found.pvalue)}


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the smallest of m times m, the next times m - 1, ..., each at least the one before."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected.tolist()
