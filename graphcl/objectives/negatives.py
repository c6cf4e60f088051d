"""Which keys stand in the denominator. Each strategy returns log-sum-exp per anchor, accumulated in the query's dtype."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from graphcl.contracts import Keys
from graphcl.ops import unit_rows

_Entries = tuple[Tensor, Tensor]  # rows and columns of some entries of [n, m]


def row_numbers(matrix: Tensor) -> Tensor:
    """The row of each entry of a sparse CSR tensor, int64 [nnz]."""
    return torch.repeat_interleave(torch.arange(matrix.shape[0], device=matrix.device), matrix.crow_indices().diff())


def _places(rows: Tensor, cols: Tensor, columns: Tensor) -> _Entries:
    """The pairs (rows[e], p) for each entry e and each place p with ``columns[p] == cols[e]``; sorted by e."""
    order = columns.argsort(stable=True)
    ranked = columns[order]
    lowest = torch.searchsorted(ranked, cols)
    counts = torch.searchsorted(ranked, cols, right=True) - lowest
    entry = torch.repeat_interleave(torch.arange(len(cols), device=cols.device), counts)
    nth = torch.arange(len(entry), device=cols.device) - (counts.cumsum(0) - counts)[entry]
    return rows[entry], order[lowest[entry] + nth]


@dataclass(frozen=True)
class InBatch:
    """The keys that are somebody's positive in this batch, each once (SimCLR's in-batch, one direction).

    With index positives the same key may come twice; the second is not a negative of the first, so it is masked by id.
    Where there are more logits than ``held_entries``, they are computed by tiles and again in the backward, as :class:`AllKeys` does.
    """

    held_entries: int = 2**26  # 256 MiB of float32
    tile_entries: int = 2**20

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
    ) -> Tensor:
        csr = positives.layout == torch.sparse_csr
        columns = positives.col_indices().unique() if csr else positives
        keys = key.at(columns)
        keys = unit_rows(keys) if normalise else keys
        bias = None if key_weights is None else key_weights[columns].log()
        left_out = []
        if not csr and len(columns.unique()) < len(columns):
            rows, places = _places(torch.arange(len(columns), device=columns.device), columns, columns)
            left_out.append((rows[rows != places], places[rows != places]))
        if exclude is not None:
            left_out.append(_places(row_numbers(exclude), exclude.col_indices(), columns))
        banned = (torch.cat([r for r, _ in left_out]), torch.cat([p for _, p in left_out])) if left_out else None
        if len(query) * len(keys) > self.held_entries:
            return _tiled(query, keys, temperature, bias, banned, self.tile_entries)
        return _LogSumExp.apply(query, keys, temperature, bias, banned)


class _LogSumExp(Function):
    """As :class:`_TiledLogSumExp` over few keys: the exponentials [n, m] are kept, and nothing is computed twice."""

    @staticmethod
    def forward(ctx, q, keys, temperature, bias, banned):
        logits = (q / temperature) @ keys.T
        if bias is not None:
            logits += bias
        if banned is not None:
            logits[banned] = -torch.inf
        top = logits.amax(1, keepdim=True)
        top = torch.where(top.isfinite(), top, 0.0)
        share = logits.sub_(top).exp_()
        total = share.sum(1)
        ctx.save_for_backward(q, keys, share, total)
        ctx.temperature = temperature
        return top[:, 0] + total.log()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        q, keys, share, total = ctx.saved_tensors
        # An anchor without any key has total 0, lse -inf and no gradient.
        scale = (torch.where(total > 0, grad / total, 0.0) / ctx.temperature)[:, None]
        return scale * (share @ keys), share.T @ (scale * q), None, None, None


@dataclass(frozen=True)
class AllKeys:
    """Every key, exactly, by tiles of keys: memory is O(n tile), the backward recomputes each tile."""

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
    ) -> Tensor:
        keys = unit_rows(key.all()) if normalise else key.all()
        bias = None if key_weights is None else key_weights.log()
        banned = None if exclude is None else (row_numbers(exclude), exclude.col_indices())
        return _tiled(query, keys, temperature, bias, banned, self.tile_entries)


def _tiled(
    query: Tensor, keys: Tensor, temperature: float, bias: Tensor | None, banned: _Entries | None, tile_entries: int
) -> Tensor:
    if banned is not None:
        rows, cols = banned
        by_column = cols.argsort(stable=True)
        banned = (rows[by_column], cols[by_column])
    return _TiledLogSumExp.apply(query, keys, temperature, bias, banned, max(1, tile_entries // max(1, len(query))))


class _TiledLogSumExp(Function):
    """lse[i] = log sum_j exp(<q_i, k_j> / t + bias_j) over the keys j that are not banned for i."""

    @staticmethod
    def _logits(scaled, keys, bias, banned, start, stop):
        logits = scaled @ keys[start:stop].T
        if bias is not None:
            logits += bias[start:stop]
        if banned is not None:
            rows, cols = banned
            a, b = torch.searchsorted(cols, torch.tensor([start, stop], device=cols.device)).tolist()
            logits[rows[a:b], cols[a:b] - start] = -torch.inf
        return logits

    @staticmethod
    def forward(ctx, q, keys, temperature, bias, banned, tile):
        lse = q.new_full((len(q),), -torch.inf)
        scaled = q / temperature
        for start in range(0, len(keys), tile):
            logits = _TiledLogSumExp._logits(scaled, keys, bias, banned, start, min(start + tile, len(keys)))
            lse = torch.logaddexp(lse, logits.logsumexp(1))
        ctx.save_for_backward(q, keys, lse)
        ctx.rest = temperature, bias, banned, tile
        return lse

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        q, keys, lse = ctx.saved_tensors
        temperature, bias, banned, tile = ctx.rest
        # An anchor without any key has lse -inf and no gradient.
        shift = torch.where(lse.isfinite(), lse, 0.0)[:, None]
        scale = (grad / temperature)[:, None]
        scaled = q / temperature
        grad_q, grad_keys = torch.zeros_like(q), torch.empty_like(keys)
        for start in range(0, len(keys), tile):
            stop = min(start + tile, len(keys))
            share = _TiledLogSumExp._logits(scaled, keys, bias, banned, start, stop)
            share = share.sub_(shift).exp_().mul_(scale)  # [n, tile] d lse / d logit, times what flows in
            grad_q.addmm_(share, keys[start:stop])
            torch.mm(share.T, q, out=grad_keys[start:stop])
        return grad_q, grad_keys, None, None, None, None
