"""Rows against the centroids of clusters, each with a temperature of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from graphcl.cluster import Clusters
from graphcl.contracts import Pair, check_known
from graphcl.objectives.log_sum_exp import log_sum_exp
from graphcl.objectives.rows import check_single, check_temperature, row_shares
from graphcl.ops import gather_rows, segment_sum, unit_rows
from graphcl.ops.segment import pointers_of


@dataclass(frozen=True)
class ProtoNCE:
    """``mean_k mean_i -log(exp(q_i . c_own / phi_own) / (m / n_k sum_c exp(q_i . c / phi_c)))`` over clusterings k of m keys.

    ``clusterings`` are those of the pair's keys, as :func:`graphcl.cluster.kmeans` makes them; c_own is the centroid of i's positive.
    Centroids are brought to unit length. They and phi are constants: no gradient reaches the keys. Empty clusters have no say and
    do not count in n_k.

    phi is a cluster's spread, clipped between the 10th and 90th percentile over clusters and scaled to mean ``temperature``.
    ``density``: "distance" is the mean distance of the members to their centroid, divided by log(size + 5); "released" has in place
    of a distance the square root of the inner product with the members' mean (0 where that is negative), so tight clusters have
    the larger phi. A cluster of one takes the largest. phi is at least ``temperature / 100``, and ``temperature`` where no cluster has any
    spread.

    Raises:
        ValueError: a setting outside its range; sparse positives, or clusterings that do not fit the pair, at the call.

    Source: Li et al., ICLR 2021; as in MEOW, SDM 2023, arXiv 2212.13847, whose release (MEOW@6a072d7) takes an inner-product index's
    score for a squared distance.
    Departs: a negative score gives NaN in the release. The least phi is ours.
    """

    reads_all = True

    temperature: float
    density: Literal["distance", "released"] = "distance"
    tile_entries: int = 2**20  # logits held at a time

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if self.density not in ("distance", "released"):
            raise ValueError(f"density must be one of distance, released, got {self.density!r}")

    def __call__(self, pair: Pair, clusterings: Sequence[Clusters]) -> Tensor:
        check_single(pair, "ProtoNCE")
        check_known(pair.positives)
        if not clusterings:
            raise ValueError("ProtoNCE needs at least one clustering of the keys, got none")
        query, points = pair.query, pair.key.all().detach()
        shares = row_shares(pair)
        losses = []
        for clusters in clusterings:
            rows, own = self._prototypes(points, clusters)
            own = own[pair.positives]
            lse = log_sum_exp(query, rows, 1.0, tile_entries=self.tile_entries, weights=shares)
            positive = (query * gather_rows(rows, own)).sum(1)
            losses.append(shares @ (lse - positive + math.log(len(points) / len(rows))))
        return torch.stack(losses).mean()

    def _prototypes(self, points: Tensor, clusters: Clusters) -> tuple[Tensor, Tensor]:
        """``c / phi`` of the clusters that have members [n_k, d], and each point's cluster among them [m]."""
        if clusters.nearest.shape != (len(points),) or clusters.centroids.shape[1:] != points.shape[1:]:
            found = f"{tuple(clusters.nearest.shape)} ids and centroids of shape {tuple(clusters.centroids.shape)}"
            raise ValueError(f"clusterings must be of the pair's keys, {tuple(points.shape)}, got {found}")
        kept, own, sizes = clusters.nearest.unique(return_inverse=True, return_counts=True)
        centroids = clusters.centroids[kept].to(points)
        order, pointers = own.argsort(stable=True), pointers_of(sizes)
        if self.density == "distance":
            spread = (points - centroids[own]).norm(dim=1)
        else:
            means = segment_sum(points[order], pointers) / sizes[:, None]
            spread = (points * means[own]).sum(1).clamp_min(0).sqrt()
        density = segment_sum(spread[order], pointers) / sizes / (sizes + 5).to(points.dtype).log()
        density = torch.where(sizes > 1, density, 0.0)  # one member tells no spread: the largest of the others' is taken
        density = torch.where(sizes == 1, density.max(), density)
        low, high = density.quantile(density.new_tensor([0.1, 0.9]))
        density = density.clamp(low, high)
        mean = density.mean()
        phi = density * (self.temperature / mean) if mean > 0 else torch.full_like(density, self.temperature)
        return unit_rows(centroids) / phi.clamp_min(self.temperature / 100)[:, None], own
