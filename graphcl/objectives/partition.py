"""Which cluster each key is in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.autograd import Function

from graphcl.ops import Sparse, add_rows, csr_of, divisor, row_pointers, unit_rows
from graphcl.ops.segment import pointers_of, segment_max, segment_numbers, segment_sum

_ROWS = 2**14  # keys that are read at a time


@dataclass(frozen=True, eq=False)
class Partition:
    """Clusters of m keys, each in one; or each shared out among several, by ``shares`` [m, K] whose rows sum to one."""

    ids: Tensor  # [m] int64, 0..K - 1; of shared-out keys the cluster with the largest share
    count: int  # K, empty ones included
    shares: Tensor | None = None  # sparse CSR [m, K]

    @classmethod
    def numbered(cls, ids: Tensor) -> Partition:  # [m] int64, 0 or more
        """By ids, which are numbered anew where they are larger than there are keys: time and memory go by ``count``."""
        count = int(ids.max()) + 1 if len(ids) else 0
        if count > len(ids):
            found, ids = ids.unique(return_inverse=True)
            count = len(found)
        return cls(ids.contiguous(), count)

    @classmethod
    def soft(cls, shares: Tensor) -> Partition:  # sparse CSR or dense [m, K]
        """Raises ValueError where a share is negative or a row does not sum to one."""
        shares = shares if shares.layout == torch.sparse_csr else shares.to_sparse_csr()
        pointers, columns, values = shares.crow_indices(), shares.col_indices(), shares.values()
        sums = segment_sum(values, pointers)
        if bool((values < 0).any()) or not torch.allclose(sums, torch.ones_like(sums), atol=1e-4):
            raise ValueError("a key's shares of the clusters must be 0 or more and sum to 1")
        rows = segment_numbers(pointers)
        kept = values > 0  # a stored zero is no share
        if not bool(kept.all()):
            rows, columns, values = rows[kept], columns[kept], values[kept]
            pointers = row_pointers(rows, len(shares))
            shares = csr_of(pointers, columns, values, shares.shape)
        largest = values == segment_max(values, pointers)[rows]
        ids = columns.new_full((len(shares),), shares.shape[1]).scatter_reduce_(0, rows[largest], columns[largest], "amin")
        return cls(ids, shares.shape[1], shares)

    @cached_property
    def order(self) -> Tensor:  # [m] keys by cluster
        return self.ids.argsort(stable=True)

    @cached_property
    def sizes(self) -> Tensor:  # [K] int64
        return torch.bincount(self.ids, minlength=self.count)

    @cached_property
    def holders(self) -> Tensor:  # [K] int64
        """Keys that have any share of each cluster."""
        if self.shares is None:
            return self.sizes
        return torch.bincount(self.shares.col_indices(), minlength=self.count)

    @cached_property
    def pointers(self) -> Tensor:  # [K + 1] into ``order``
        return pointers_of(self.sizes)

    @cached_property
    def rank(self) -> Tensor:  # [m] place of each key in ``order``
        return torch.empty_like(self.order).scatter_(0, self.order, torch.arange(len(self.order), device=self.ids.device))

    def spread_out(self, keys: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:  # [E]
        """For each of some keys the clusters that it has a share of: number in ``keys``, cluster, share (None: whole)."""
        if self.shares is None:
            return torch.arange(len(keys), device=keys.device), self.ids[keys], None
        pointers = self.shares.crow_indices()
        counts = pointers.diff()[keys]
        number = torch.repeat_interleave(torch.arange(len(keys), device=keys.device), counts)
        place = torch.arange(len(number), device=keys.device) - (counts.cumsum(0) - counts)[number] + pointers[keys][number]
        return number, self.shares.col_indices()[place], self.shares.values()[place]

    def weight(self, weights: Tensor | None, like: Tensor) -> Tensor:  # [K]
        """Total weight of each cluster's keys; without weights each counts once."""
        if self.shares is not None:
            each = like.new_ones(len(self.ids)) if weights is None else weights.to(like.dtype)
            return (self._operator(like).T @ each[:, None]).flatten()
        if weights is None:
            return self.sizes.to(like.dtype)
        return like.new_zeros(self.count).index_add_(0, self.ids, weights.to(like.dtype))

    def sums(self, keys: Tensor, weights: Tensor | None, normalise: bool) -> Tensor:  # [m, d] -> [K, d]
        """``sum_j w_j k_j`` over each cluster's keys, of unit length with ``normalise``; nothing else of [m, d] is held, unless soft."""
        if self.shares is not None:
            rows = unit_rows(keys) if normalise else keys
            return self._operator(keys).T @ (rows if weights is None else rows * weights[:, None])
        out = keys.new_zeros(self.count, keys.shape[1])
        for start in range(0, len(keys), _ROWS):
            rows = keys[start : start + _ROWS]
            rows = unit_rows(rows) if normalise else rows
            rows = rows if weights is None else rows * weights[start : start + _ROWS, None]
            add_rows(out, self.ids[start : start + _ROWS], rows)
        return out

    def pooled(self, keys: Tensor) -> Tensor:  # [m, d] -> [K, d]
        """``sums`` of the keys as they are, differentiable."""
        return _Pool.apply(keys, self)

    def spread(self, gradient: Tensor, keys: Tensor, weights: Tensor | None, normalise: bool) -> Tensor:  # [K, d] -> [m, d]
        """The adjoint of ``sums`` at ``keys``."""
        if self.shares is not None:
            moved = self._operator(keys) @ gradient
            moved = moved if weights is None else moved * weights[:, None]
            return through_unit(moved, keys) if normalise else moved
        out = torch.empty_like(keys)
        for start in range(0, len(keys), _ROWS):
            part = slice(start, start + _ROWS)
            moved = gradient[self.ids[part]]
            moved = moved if weights is None else moved * weights[part, None]
            out[part] = through_unit(moved, keys[part]) if normalise else moved
        return out

    @cached_property
    def _operators(self) -> dict[torch.dtype, Sparse]:
        return {}

    def _operator(self, like: Tensor) -> Sparse:
        assert self.shares is not None
        if like.dtype not in self._operators:  # kept, for its transpose is built once
            self._operators[like.dtype] = Sparse(
                self.shares.crow_indices(), self.shares.col_indices().int(), (len(self.ids), self.count),
                values=self.shares.values().to(like.dtype), left=like.new_ones(len(self.ids)), right=like.new_ones(self.count),
            )  # fmt: skip
        return self._operators[like.dtype]


class _Pool(Function):
    @staticmethod
    def forward(ctx, keys, partition):
        ctx.partition = partition
        ctx.save_for_backward(keys)
        return partition.sums(keys, None, False)

    @staticmethod
    def backward(ctx, gradient):
        return ctx.partition.spread(gradient, ctx.saved_tensors[0], None, False), None


def through_unit(gradient: Tensor, rows: Tensor) -> Tensor:  # [n, d]
    """A gradient by unit rows as one by the rows."""
    length = divisor(rows)
    unit = rows / length
    return (gradient - unit * (gradient * unit).sum(1, keepdim=True)) / length
