"""Inner products of chosen pairs of rows: the entries of ``Q K^T`` at a sparse pattern, without a gathered table [E, d]."""

from __future__ import annotations

import numba
import torch
from torch import Tensor
from torch.autograd import Function

from graphcl.ops.segment import segment_numbers
from graphcl.ops.sparse import Sparse


def pair_scores(query: Tensor, keys: Tensor, pointers: Tensor, columns: Tensor) -> Tensor:
    """``<q_i, k_j>`` for each entry (i, j) of a CSR pattern [n, m]: [n, d], [m, d], [n + 1], [E] -> [E]."""
    return _PairScores.apply(query, keys, pointers, columns)


class _PairScores(Function):
    @staticmethod
    def forward(ctx, query, keys, pointers, columns):
        ctx.save_for_backward(query, keys, pointers, columns)
        if query.device.type == "cpu":
            out = query.new_empty(len(columns))
            _scores(
                query.detach().contiguous().numpy(),
                keys.detach().contiguous().numpy(),
                pointers.numpy(),
                columns.numpy(),
                out.numpy(),
            )
            return out
        rows = segment_numbers(pointers)
        parts = zip(rows.split(2**20), columns.split(2**20), strict=True)
        return torch.cat([(query[r] * keys[c]).sum(1) for r, c in parts]) if len(rows) else query.new_empty(0)

    @staticmethod
    def backward(ctx, grad):
        query, keys, pointers, columns = ctx.saved_tensors
        ones = query.new_ones(1)
        op = Sparse(
            pointers, columns.int(), (len(query), len(keys)), values=grad.contiguous(),
            left=ones.expand(len(query)).contiguous(), right=ones.expand(len(keys)).contiguous(),
        )  # fmt: skip
        to_query = op @ keys if ctx.needs_input_grad[0] else None
        return to_query, _to_keys(op, query) if ctx.needs_input_grad[1] else None, None, None


def _to_keys(op: Sparse, query: Tensor) -> Tensor:  # [m, d]
    """``op.T @ query``, by a transpose only where scattering is slower (columns out of order) or not differentiable."""
    if not torch.is_grad_enabled() and (query.device.type != "cpu" or op._sorted):
        return op.rows(torch.arange(len(query), device=query.device)).adjoint(query)
    return op.T @ query


@numba.njit(parallel=True, fastmath={"contract", "nsz", "reassoc", "arcp"}, cache=True)
def _scores(query, keys, pointers, columns, out):  # type: ignore[no-untyped-def]
    for row in numba.prange(len(pointers) - 1):
        q = query[row]
        for place in range(pointers[row], pointers[row + 1]):
            k = keys[columns[place]]
            total = q[0] * k[0]
            for i in range(1, q.shape[0]):
                total += q[i] * k[i]
            out[place] = total
