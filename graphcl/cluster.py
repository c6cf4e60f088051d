"""k-means by Lloyd's iteration, in tiles: distances [N, K] are never held.

An iteration costs one product of [N, d] with [d, K]. On one thread of an AMD EPYC, with d = 64: 0.1 s for 40,981 rows and K = 1000.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from graphcl.ops import row_norm, segment_sum
from graphcl.ops.segment import pointers_of

Metric = Literal["euclidean", "cosine"]
_ENTRIES = 2**20  # distances held at a time: 4 MiB of float32, which stays in cache


@dataclass(frozen=True, eq=False)
class Clusters:
    centroids: Tensor  # [K, d]
    nearest: Tensor  # [N] int64, each row's centroid
    inertia: float  # sum of squared distances to it; "cosine": of unit rows, so 2 (1 - cosine) each


def kmeans(
    x: Tensor,  # [N, d]
    num_clusters: int,
    *,
    start: Tensor | None = None,  # [K, d] centroids to go on from; None: rows drawn at random
    metric: Metric = "euclidean",
    max_iterations: int = 25,
    tolerance: float = 1e-3,
    rng: torch.Generator,
) -> Clusters:
    """Moves each centroid to the mean of its rows until an iteration lowers the inertia by less than a share ``tolerance``.

    "cosine" is spherical k-means: rows and centroids of unit length. Every row ends with its nearest centroid, of equal ones the
    first. A centroid without rows moves to a row, drawn in proportion to the squared distance from its own centroid, and stays
    where it is when every row lies on one: more clusters than different rows leave some empty. Means are taken in float64,
    about the mean of all rows, so data far from the origin lose nothing.

    Raises:
        ValueError: a number of clusters outside 1..N, another metric, a row that is not finite (or, for "cosine", zero), a start of
            another shape.
    """
    _check(x, num_clusters, start, metric, max_iterations)
    x = x.detach()
    middle = x.double().mean(0).to(x.dtype) if metric == "euclidean" else x.new_zeros(x.shape[1])
    x = _placed(x - middle, metric)
    if start is None:
        centroids = x[torch.randperm(len(x), generator=rng)[:num_clusters].to(x.device)]
    else:
        centroids = _placed(start.to(x) - middle, metric)
    before = float("inf")
    for iteration in range(max_iterations + 1):
        nearest, squared = nearest_centroids(x, centroids)
        inertia = float(squared.sum(dtype=torch.float64))
        counts = torch.bincount(nearest, minlength=num_clusters)
        seeds = _seeds(squared, int((counts == 0).sum()), rng)
        if iteration == max_iterations or (inertia >= before * (1 - tolerance) and not len(seeds)):
            break
        before = inertia
        centroids = _means(x, nearest, counts, centroids, metric)
        centroids[(counts == 0).nonzero().flatten()[: len(seeds)]] = x[seeds]
    return Clusters(centroids + middle, nearest, inertia)


def _check(x: Tensor, num_clusters: int, start: Tensor | None, metric: str, max_iterations: int) -> None:
    if x.ndim != 2 or not x.is_floating_point():
        raise ValueError(f"k-means needs a table [N, d] of floats, got {x.dtype} of shape {tuple(x.shape)}")
    if not 1 <= num_clusters <= len(x):
        raise ValueError(f"the number of clusters must lie between 1 and the number of rows, {len(x)}, got {num_clusters}")
    if metric not in get_args(Metric):
        raise ValueError(f"metric must be one of {', '.join(get_args(Metric))}, got {metric!r}")
    if max_iterations < 0:
        raise ValueError(f"max_iterations must be 0 or more, got {max_iterations}")
    if start is not None and start.shape != (num_clusters, x.shape[1]):
        raise ValueError(f"start must be of shape {(num_clusters, x.shape[1])}, got {tuple(start.shape)}")
    for name, rows in (("row", x), ("start row", x[:0] if start is None else start)):
        bad = ~rows.isfinite().all(1)
        if bool(bad.any()):
            raise ValueError(f"{name} {int(bad.nonzero()[0])} is not finite")
        zero = ~rows.any(1)
        if metric == "cosine" and bool(zero.any()):
            first = int(zero.nonzero()[0])
            raise ValueError(f"{name} {first} is zero and has no direction; leave it out or use metric='euclidean'")


def _placed(rows: Tensor, metric: str) -> Tensor:
    return rows / row_norm(rows) if metric == "cosine" else rows


def nearest_centroids(x: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """Each row's centroid and the squared distance to it, both [N]."""
    half = centroids.square().sum(1) / 2
    nearest, squared = [], []
    for rows in x.split(max(1, _ENTRIES // len(centroids))):
        nearest.append(torch.addmm(half, rows, centroids.T, alpha=-1).argmin(1))  # (|x - c|^2 - |x|^2) / 2
        squared.append((rows - centroids[nearest[-1]]).square().sum(1))
    return torch.cat(nearest), torch.cat(squared)


def _means(x: Tensor, nearest: Tensor, counts: Tensor, centroids: Tensor, metric: str) -> Tensor:
    """The next centroids; one that has no mean (no rows, or opposed ones under "cosine") stays."""
    pointers = pointers_of(counts)
    sums = segment_sum(x[nearest.argsort(stable=True)].double(), pointers)
    means = (_placed(sums, metric) if metric == "cosine" else sums / counts[:, None]).to(x.dtype)
    return torch.where(means.isfinite().all(1, keepdim=True), means, centroids)


def _seeds(squared: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """At most ``count`` different rows, drawn one after the other in proportion to ``squared``; none of those with 0."""
    if not count:
        return squared.new_empty(0, dtype=torch.int64)
    waits = torch.empty(len(squared), dtype=torch.float64).exponential_(generator=rng).to(squared.device)
    rate, rows = (squared.double() / waits).topk(count)  # those whose exponential clock rings first
    return rows[rate > 0]
