"""Assignments of keys to clusters, kept from step to step."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from graphcl.cluster import kmeans, nearest_centroids
from graphcl.contracts import Keys, Part
from graphcl.objectives.partition import Partition
from graphcl.ops import csr_of, unit_rows

_ROWS_A_CLUSTER = 256  # that k-means looks at; of more, a sample
_ROWS = 2**14  # of many keys, that are read at a time
_FIRST, _NEXT = 10, 3  # moves of the centroids, at first and from where they were


class ClusterState(Part):
    """Which cluster every key of each kind is in, found anew by k-means every ``every`` epochs, from the clusters as they were.

    ``given`` clusters ([m] int64 ids, or [m, K] shares that sum to one) of a kind stay: communities of a graph, categories of items.
    Of the others there are ``num_clusters``, or ``ceil(sqrt(m))``. Only assignments are kept; whoever sums up clusters does it
    with the keys of the moment. All of it is buffers, so it is in every checkpoint.

    Raises:
        ValueError: a number outside its range, clusters given for another number of keys or for a kind without any.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],  # keys of each kind
        num_clusters: int | None = None,
        *,
        every: int = 1,
        given: Mapping[str, Tensor] | None = None,
    ):
        super().__init__()
        if every < 1:
            raise ValueError(f"every must be 1 or more epochs, got {every}")
        if num_clusters is not None and num_clusters < 1:
            raise ValueError(f"num_clusters must be 1 or more, got {num_clusters}")
        for kind in given or ():
            if kind not in sizes:
                raise ValueError(f"clusters were given for kind {kind!r}, but there are keys of {', '.join(sizes)}")
        self.every, self.kinds = every, tuple(sizes)
        self.counts: dict[str, int] = {}
        self._partitions: dict[str, Partition] = {}
        self._due: set[str] = set()
        self._soft: dict[str, int] = {}  # how many clusters keys are shared out among
        for kind, size in sizes.items():
            clusters = (given or {}).get(kind)
            if clusters is None:
                self.counts[kind] = min(num_clusters or math.ceil(math.sqrt(size)), size)
                clusters = torch.full((size,), -1)
            elif len(clusters) != size:
                raise ValueError(f"clusters of {len(clusters)} keys were given for kind {kind!r}, which has {size}")
            elif clusters.is_floating_point():
                clusters = clusters if clusters.layout == torch.sparse_csr else clusters.to_sparse_csr()
                self._soft[kind] = clusters.shape[1]
                for part, values in (
                    ("rowptr", clusters.crow_indices()),
                    ("col", clusters.col_indices()),
                    ("shares", clusters.values()),
                ):
                    self.register_buffer(f"{kind}_{part}", values)
                continue
            elif len(clusters) and int(clusters.min()) < 0:
                raise ValueError(f"clusters are numbered from 0, got {int(clusters.min())} for kind {kind!r}")
            self.register_buffer(f"{kind}_clusters", clusters)

    def start_epoch(self, inputs, epoch: int, rng: torch.Generator) -> None:
        self._partitions = {}
        if (epoch - 1) % self.every == 0:
            self._due = set(self.counts)

    def of(self, kind: str, key: Keys, normalise: bool, rng: torch.Generator | None) -> Partition:
        """The clusters of a kind, found at the first call of an epoch in which they are due."""
        if kind not in self.kinds:
            raise ValueError(f"there are no clusters of kind {kind!r}, only of {', '.join(self.kinds)}")
        soft = kind in self._soft
        clusters = self.get_buffer(f"{kind}_{'rowptr' if soft else 'clusters'}")
        if len(clusters) - soft != len(key):
            raise ValueError(f"clusters are of {len(clusters) - soft} keys of kind {kind!r}, but there are {len(key)}")
        if kind in self.counts and (kind in self._due or int(clusters[0]) < 0):
            if rng is None:
                raise RuntimeError("k-means draws its first centroids: give rng, or train with fit, which does")
            clusters.copy_(self._found(key.all().detach(), clusters, self.counts[kind], normalise, rng))
            self._due.discard(kind)
            self._partitions.pop(kind, None)
        if kind not in self._partitions:
            if soft:
                columns, values = self.get_buffer(f"{kind}_col"), self.get_buffer(f"{kind}_shares")
                self._partitions[kind] = Partition.soft(csr_of(clusters, columns, values, (len(key), self._soft[kind])))
            else:
                known = kind in self.counts
                self._partitions[kind] = Partition(clusters, self.counts[kind]) if known else Partition.numbered(clusters)
        return self._partitions[kind]

    def _apply(self, fn, recurse=True):
        self._partitions = {}  # what was made of buffers goes with them
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args) -> None:
        self._partitions = {}
        super()._load_from_state_dict(*args)

    @staticmethod
    def _found(keys: Tensor, before: Tensor, count: int, normalise: bool, rng: torch.Generator) -> Tensor:
        start = None
        if int(before[0]) >= 0:
            old = Partition(before, count)
            sums = old.sums(keys, None, normalise)
            if bool((old.sizes > 0).all()):
                start = sums / old.sizes[:, None]
        sample = keys
        if len(keys) > _ROWS_A_CLUSTER * count:
            sample = keys[torch.randint(len(keys), (_ROWS_A_CLUSTER * count,), generator=rng).to(keys.device)]
        found = kmeans(
            unit_rows(sample) if normalise else sample,
            count,
            start=start,
            max_iterations=_FIRST if start is None else _NEXT,
            rng=rng,
        )
        if sample is keys:
            return found.nearest
        return torch.cat(
            [nearest_centroids(unit_rows(rows) if normalise else rows, found.centroids)[0] for rows in keys.split(_ROWS)]
        )
