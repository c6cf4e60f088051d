"""Metric definitions: pure functions on the lists that were recommended.

``top`` is what a ranking gives, [n, K] item rows, best first, -1 where fewer than K items could be ranked. ``truth`` holds the
held-out items of the same n users, row by row. Users without held-out items have no defined value: leave them out before.

Keys read ``ndcg@20``, ``ndcg@20/tail`` for a slice of the items, or ``ndcg@20/masked`` where a report holds the value with seen items
masked beside the one with them kept.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse

ACCURACY = ("recall", "ndcg", "precision", "mrr", "hr", "map")
SLICED = ("recall", "ndcg")
SLICES = ("head", "tail")
EXPOSURE = ("coverage", "gini", "novelty", "popularity")
RANKS = ("hr", "ndcg", "mrr")  # of one item's rank; sequences have them with seen items masked too
MASKED = "masked"
KNOWN = (*ACCURACY, *(f"{name}/{part}" for name in SLICED for part in SLICES), *EXPOSURE)


class Metric(NamedTuple):
    """A key taken apart: ``recall@20/tail`` is ("recall", 20, "tail")."""

    name: str
    k: int
    part: str | None = None

    @property
    def key(self) -> str:
        return f"{self.name}@{self.k}" + (f"/{self.part}" if self.part else "")


def parse(key: str) -> Metric:
    """A key such as ``ndcg@20`` or ``recall@20/tail`` -> its name, cut-off and slice.

    **Raises** ValueError for a key without a cut-off, a cut-off that is not a positive whole number, or an unknown name.
    """
    name, at, rest = key.partition("@")
    cutoff, slash, part = rest.partition("/")
    if not at or not (cutoff.isascii() and cutoff.isdigit()) or int(cutoff) == 0:
        raise ValueError(f"{key!r} is not a metric: write name@K with K a whole number from 1, such as 'ndcg@20'")
    check_name(name if name in RANKS and part == MASKED else f"{name}{slash}{part}")
    return Metric(name, int(cutoff), part or None)


def check_name(name: str) -> None:
    """**Raises** ValueError, naming the nearest known metric, unless ``name`` is one of ``KNOWN``."""
    if name not in KNOWN:
        near = difflib.get_close_matches(name.lower(), KNOWN, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(f"no metric is called {name!r}: {hint}known are {', '.join(KNOWN)}")


def ranking_metrics(
    top: np.ndarray,  # [n, K] int
    truth: sparse.csr_matrix,  # [n, I], any stored entry counts as relevant
    ks: Sequence[int] = (10, 20, 40),
    names: Sequence[str] = ("recall", "ndcg"),
) -> dict[str, np.ndarray]:
    """One value for each user and key, float64 [n].

    With T the user's held-out items, h_r = 1 when rank r (from 1) is a hit, H = sum of h_r over r <= K:

    * ``recall`` H / |T|, ``precision`` H / K, ``hr`` 1 if H > 0;
    * ``ndcg`` sum of h_r / log2(r + 1), over its value for a list that begins with min(K, |T|) hits;
    * ``mrr`` 1 / rank of the first hit, 0 without one;
    * ``map`` sum of h_r * (hits up to r) / r, over min(K, |T|).

    Places beyond the rankable items (-1) count as misses.

    **Raises** ValueError when rows do not agree, a list holds an item beyond I, a user has no held-out item, a cut-off exceeds K, or a
    name is unknown.
    """
    for name in names:
        check_name(name)
        if name not in ACCURACY:
            raise ValueError(f"{name!r} is not a value of one user's list alone; here go {', '.join(ACCURACY)}")
    hits, sizes = hit_matrix(top, truth)
    if len(sizes) and sizes.min() == 0:
        raise ValueError(f"row {int(sizes.argmin())} of truth is empty: leave out users without held-out items")
    return _from_hits(hits, sizes, ks, names)


def rank_metrics(ranks: np.ndarray, ks: Sequence[int], names: Sequence[str] = RANKS) -> dict[str, np.ndarray]:
    """The same definitions where one item is held out and its rank [n] (from 1) is known: one value for each rank and key.

    ``hr`` (which recall is too) 1 if rank <= k; ``ndcg`` 1 / log2(rank + 1) and ``mrr`` 1 / rank within k, 0 beyond.
    """
    ranks = np.asarray(ranks, dtype=np.float64)
    values = {"hr": np.ones_like(ranks), "ndcg": 1 / np.log2(ranks + 1), "mrr": 1 / ranks}
    return {f"{name}@{k}": np.where(ranks <= k, values[name], 0.0) for k in ks for name in names}


def sliced_metrics(
    top: np.ndarray,  # [n, K] int
    truth: sparse.csr_matrix,  # [n, I]
    members: np.ndarray,  # [I] bool
    part: str,
    ks: Sequence[int] = (10, 20, 40),
    names: Sequence[str] = SLICED,
) -> dict[str, np.ndarray]:
    """The same metrics with only the held-out items in ``members`` counted as relevant; lists stay as they are.

    Users without such an item get NaN, and ``mean_metrics`` passes over them. Keys end in ``/part``.
    """
    members = np.asarray(members, dtype=bool)
    if members.shape != (truth.shape[1],):
        raise ValueError(f"members must say yes or no for each of {truth.shape[1]} items, got shape {members.shape}")
    some = _pattern(truth).multiply(members[None, :]).tocsr()
    some.eliminate_zeros()
    hits, sizes = hit_matrix(top, some)
    out = _from_hits(hits, np.maximum(sizes, 1), ks, names)
    for values in out.values():
        values[sizes == 0] = np.nan
    return {f"{key}/{part}": values for key, values in out.items()}


def hit_matrix(top: np.ndarray, truth: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Which places hold a held-out item, bool [n, K], and how many held-out items each user has, int64 [n].

    **Raises** ValueError when the rows do not agree, or a list holds an item that truth has no column for.
    """
    top = np.asarray(top)
    if top.ndim != 2 or top.shape[0] != truth.shape[0]:
        raise ValueError(f"top has shape {top.shape} and truth {truth.shape}: both need one row per evaluated user")
    if top.size and top.max() >= truth.shape[1]:
        raise ValueError(f"top holds item row {top.max()}, but truth has {truth.shape[1]} items")
    truth = _pattern(truth)
    sizes = np.diff(truth.indptr).astype(np.int64)
    if truth.nnz == 0:
        return np.zeros(top.shape, dtype=bool), sizes
    num_items = truth.shape[1]
    rows = np.arange(len(top), dtype=np.int64)
    known = np.repeat(rows, sizes) * num_items + truth.indices  # ascending: rows in order, columns sorted
    asked = rows[:, None] * num_items + top
    place = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    return (known[place] == asked) & (top >= 0), sizes


def exposure_metrics(
    top: np.ndarray,  # [n, K] int
    degree: np.ndarray,  # [I] train interactions of each item
    num_users: int,
    ks: Sequence[int] = (10, 20, 40),
    names: Sequence[str] = EXPOSURE,
) -> dict[str, float]:
    """What the lists show, all users together; places holding -1 are left out.

    * ``coverage`` share of all items that stand in at least one list;
    * ``gini`` of how often each item is shown, all items counted: 0 is even, towards 1 a few items take all;
    * ``novelty`` mean of -log2(degree / num_users) over everything shown, in bits. An item nobody has in train counts as if
      one user had it, so the value stays finite;
    * ``popularity`` mean train degree of everything shown.

    Lists that show nothing at all give NaN, except a coverage of 0.
    """
    for name in names:
        check_name(name)
        if name not in EXPOSURE:
            raise ValueError(f"{name!r} needs held-out items; here go {', '.join(EXPOSURE)}")
    degree = np.asarray(degree, dtype=np.float64)
    bits = np.log2(num_users) - np.log2(np.maximum(degree, 1))
    out: dict[str, float] = {}
    for k in _cutoffs(ks, top):
        shown = top[:, :k]
        counts = np.bincount(shown[shown >= 0].astype(np.int64), minlength=len(degree)).astype(np.float64)
        total = counts.sum()
        values = {
            "coverage": float((counts > 0).mean()),
            "gini": gini(counts),
            "novelty": float(counts @ bits / total) if total else np.nan,
            "popularity": float(counts @ degree / total) if total else np.nan,
        }
        out.update({f"{name}@{k}": values[name] for name in names})
    return out


def gini(counts: np.ndarray) -> float:
    """Gini coefficient of non-negative counts; NaN when all are zero."""
    counts = np.sort(np.asarray(counts, dtype=np.float64))
    n, total = len(counts), counts.sum()
    if total == 0:
        return float("nan")
    return float((2 * np.arange(1, n + 1) - n - 1) @ counts / (n * total))


def head_items(degree: np.ndarray, share: float = 0.8) -> np.ndarray:
    """The head of a popularity curve, bool [I]: the smallest set of most popular items that covers ``share`` of all train
    interactions. Among equally popular items those with the lower row come first. The tail is every other item.

    **Raises** ValueError unless 0 < share < 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, got {share}")
    degree = np.asarray(degree, dtype=np.float64)
    order = np.argsort(-degree, kind="stable")
    covered = np.cumsum(degree[order])
    head = np.zeros(len(degree), dtype=bool)
    if len(degree) and covered[-1] > 0:
        head[order[: np.searchsorted(covered, share * covered[-1]) + 1]] = True
    return head


def mean_metrics(per_user: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The mean over users of each key; NaN (no held-out item in the slice) is passed over; NaN where nothing else stands."""
    out = {}
    for key, values in per_user.items():
        defined = values[~np.isnan(values)]
        out[key] = float(defined.mean()) if len(defined) else float("nan")
    return out


def _from_hits(hits: np.ndarray, sizes: np.ndarray, ks: Sequence[int], names: Sequence[str]) -> dict[str, np.ndarray]:
    ranks = np.arange(1, hits.shape[1] + 1, dtype=np.float64)
    discount = 1 / np.log2(ranks + 1)
    ideal = np.concatenate([[0.0], np.cumsum(discount)])  # ideal[m]: a list that begins with m hits
    so_far = np.cumsum(hits, axis=1)  # [n, K]
    precision_at_hits = np.cumsum(hits * so_far / ranks, axis=1) if "map" in names else None
    first = np.where(hits.any(axis=1), hits.argmax(axis=1) + 1, np.inf) if hits.shape[1] else np.full(len(hits), np.inf)
    out: dict[str, np.ndarray] = {}
    for k in _cutoffs(ks, hits):
        reachable = np.minimum(sizes, k)
        for name in names:
            if name == "recall":
                values = so_far[:, k - 1] / sizes
            elif name == "precision":
                values = so_far[:, k - 1] / k
            elif name == "hr":
                values = (so_far[:, k - 1] > 0).astype(np.float64)
            elif name == "ndcg":
                values = hits[:, :k] @ discount[:k] / ideal[reachable]
            elif name == "mrr":
                values = np.where(first <= k, 1 / first, 0.0)
            else:
                assert precision_at_hits is not None
                values = precision_at_hits[:, k - 1] / reachable
            out[f"{name}@{k}"] = values
    return out


def _cutoffs(ks: Sequence[int], top: np.ndarray) -> Sequence[int]:
    for k in ks:
        if not 1 <= k <= top.shape[1]:
            raise ValueError(f"cut-off {k} needs lists of at least {k} (and at least 1) items, these have {top.shape[1]}")
    return ks


def _pattern(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Stored entries, zeros too, each once as a one, columns sorted; the caller's matrix stays as it is."""
    matrix = sparse.csr_matrix(matrix)
    if not matrix.has_canonical_format:
        matrix = matrix.copy()
        matrix.sum_duplicates()
    return sparse.csr_matrix((np.ones(matrix.nnz, dtype=np.int8), matrix.indices, matrix.indptr), shape=matrix.shape)
