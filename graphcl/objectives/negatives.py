"""Which keys stand in the denominator. Each strategy returns log-sum-exp per anchor, accumulated in the query's dtype."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from graphcl.contracts import Keys
from graphcl.objectives.log_sum_exp import joined, log_sum_exp
from graphcl.objectives.rows import entries, places_of
from graphcl.ops import unit_rows


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
        if positives.layout == torch.sparse_csr:
            columns, shared = positives.col_indices().unique(), False
        else:
            columns, place, counts = positives.unique(return_inverse=True, return_counts=True)
            shared = len(columns) < len(positives)
            columns = columns if shared else positives
        keys = key.at(columns)
        keys = unit_rows(keys) if normalise else keys
        bias = None if key_weights is None else key_weights[columns].log().to(query.dtype)
        banned = None if exclude is None else entries(exclude)
        left_out = None if banned is None else places_of(*banned, columns)
        if not shared:
            return log_sum_exp(
                query, keys, temperature, tile_entries=self.tile_entries, weights=weights, bias=bias, banned=left_out
            )
        # Every key once, others' as often as they come, and a row's own beside them: no pairs of rows with the same key are listed.
        rows = torch.arange(len(query), device=query.device)
        own = (rows, place) if left_out is None else (torch.cat([rows, left_out[0]]), torch.cat([place, left_out[1]]))
        others = log_sum_exp(
            query, keys, temperature, tile_entries=self.tile_entries,
            bias=counts.to(query.dtype).log() + (0 if bias is None else bias),
            banned=own,
        )  # fmt: skip
        similar = (query * keys[place]).sum(1) / temperature + (0 if bias is None else bias[place])
        both = joined([others, similar])
        if banned is None:
            return both
        dropped = torch.zeros(len(query), dtype=torch.bool, device=query.device)
        dropped[banned[0][banned[1] == positives[banned[0]]]] = True
        return torch.where(dropped, others, both)


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
            banned=None if exclude is None else entries(exclude),
        )  # fmt: skip
