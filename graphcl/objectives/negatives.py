"""Which keys stand in the denominator. Each strategy returns log-sum-exp per anchor, accumulated in the query's dtype."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from graphcl.contracts import Keys
from graphcl.objectives.log_sum_exp import log_sum_exp
from graphcl.objectives.rows import places_of, same_ids
from graphcl.ops import segment_numbers, unit_rows


@dataclass(frozen=True)
class InBatch:
    """The keys that are somebody's positive in this batch (SimCLR's in-batch, one direction).

    With index positives a key counts as often as rows have it, as in a softmax over the batch; for a row that has it itself, once. With
    sparse positives every key counts once.
    """

    reads_all = False
    tile_entries: int = 2**20  # logits held at a time: 4 MiB of float32, which stays in cache

    def __call__(
        self,
        query: Tensor,
        key: Keys,
        positives: Tensor,
        *,
        temperature: float,
        key_weights: Tensor | None = None,
        exclude: Tensor | None = None,
        normalise: bool = False,
        weights: Tensor | None = None,
        kind: str = "node",
    ) -> Tensor:
        csr = positives.layout == torch.sparse_csr
        columns = positives.col_indices().unique() if csr else positives
        keys = key.at(columns)
        keys = unit_rows(keys) if normalise else keys
        left_out = []
        if not csr and len(columns.unique()) < len(columns):
            rows, places = same_ids(columns)
            left_out.append((rows[rows != places], places[rows != places]))
        if exclude is not None:
            left_out.append(places_of(segment_numbers(exclude.crow_indices()), exclude.col_indices(), columns))
        return log_sum_exp(
            query, keys, temperature, tile_entries=self.tile_entries, weights=weights,
            bias=None if key_weights is None else key_weights[columns].log(),
            banned=(torch.cat([r for r, _ in left_out]), torch.cat([p for _, p in left_out])) if left_out else None,
        )  # fmt: skip


@dataclass(frozen=True)
class AllKeys:
    """Every key, exactly, by tiles."""

    reads_all = True
    tile_entries: int = 2**24  # logits held at a time: 64 MiB of float32

    def __call__(
        self,
        query: Tensor,
        key: Keys,
        positives: Tensor,
        *,
        temperature: float,
        key_weights: Tensor | None = None,
        exclude: Tensor | None = None,
        normalise: bool = False,
        weights: Tensor | None = None,
        kind: str = "node",
    ) -> Tensor:
        return log_sum_exp(
            query, unit_rows(key.all()) if normalise else key.all(), temperature, tile_entries=self.tile_entries, weights=weights,
            bias=None if key_weights is None else key_weights.log(),
            banned=None if exclude is None else (segment_numbers(exclude.crow_indices()), exclude.col_indices()),
        )  # fmt: skip
