"""Each node against the centres of clusters of its kind."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from graphcl.cluster import kmeans
from graphcl.contracts import Forward, Pair, Part, Readout, Table

_log = logging.getLogger(__name__)


class Prototypes(Part):
    """Rows of a readout against k-means centroids of that readout, for each kind apart; the own centroid is the positive.

    Centroids are constants of the loss. They are moved at the first step of an epoch, from where they were, every ``every`` epochs
    after ``warm_up`` epochs without any pair. A kind with fewer than ``num_clusters`` nodes gets one cluster a node.

    Centroids are handed out as they are: an objective with cosines brings them to unit length, as the paper does.

    Source: NCL, Lin et al., WWW 2022; RUCAIBox/NCL@962797a (ncl.py, trainer.py).
    Departs: k-means goes on from the last centroids instead of starting anew (which gives a node another set of negatives each
    epoch and takes three times as long), and is not run during the warm-up.
    """

    passes = 0

    def __init__(
        self,
        num_clusters: int,
        readout: Readout,
        sizes: Mapping[str, int],  # nodes of each kind
        dim: int,
        *,
        warm_up: int = 0,  # epochs
        every: int = 1,  # epochs
    ):
        super().__init__()
        for name, value, least in (("num_clusters", num_clusters, 1), ("warm_up", warm_up, 0), ("every", every, 1)):
            if value < least:
                raise ValueError(f"{name} must be {least} or more, got {value}")
        self.readout, self.warm_up, self.every = readout, warm_up, every
        for kind, count in sizes.items():
            if count < num_clusters:
                _log.warning(
                    "%d clusters of kind %r asked for, which has %d nodes: one cluster a node", num_clusters, kind, count
                )
            self.register_buffer(f"{kind}_centroids", torch.zeros(min(num_clusters, count), dim))
            self.register_buffer(f"{kind}_nearest", torch.zeros(count, dtype=torch.int64))
        self._age: int | None = None  # epochs since the warm-up ended, 0 for the first
        self._due = False

    def start_epoch(self, inputs, epoch: int, rng: torch.Generator) -> None:
        self._age = epoch - 1 - self.warm_up
        self._due = self._age >= 0 and self._age % self.every == 0

    def __call__(self, forward: Forward) -> tuple[Pair, ...]:
        if self._age is None:
            raise RuntimeError("Prototypes needs start_epoch before the first step")
        if self._age < 0:
            return ()
        if self._due:
            self._cluster(forward)
        side = (forward.main, self.readout)
        return tuple(self._moved(pair) for pair in forward.pairs(side, side))

    def _moved(self, pair: Pair) -> Pair:
        """The pair with centroids for keys."""
        centroids, nearest = self._of(pair.kind)
        return replace(pair, key=Table(centroids), positives=nearest[pair.positives])

    def _of(self, kind: str) -> tuple[Tensor, Tensor]:
        """Centroids [K, d] of a kind, and each node's [n]."""
        return self.get_buffer(f"{kind}_centroids"), self.get_buffer(f"{kind}_nearest")

    def _cluster(self, forward: Forward) -> None:
        table = self.readout(forward.main).detach()
        for kind, span in forward.inputs.kinds.items():
            centroids, nearest = self._of(kind)
            found = kmeans(table[span], len(centroids), start=centroids if self._age else None, rng=forward.rng)
            _log.info("%s: %d clusters, inertia %.4g", kind, len(centroids), found.inertia)
            centroids.copy_(found.centroids)
            nearest.copy_(found.nearest)
        self._due = False
