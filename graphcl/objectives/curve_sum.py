"""A sum over pairs of a function of their inner product, by tiles: the inner products [n, m] are never held.

sum_i w_i sum_j f(<q_i, k_j>)          j not banned for i
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from graphcl.objectives.log_sum_exp import Entries

Curve = Callable[[Tensor], tuple[Tensor, Tensor]]  # of each entry, the value and the slope


def curve_sum(
    query: Tensor,  # [n, d]
    keys: Tensor,  # [m, d]
    weights: Tensor,  # [n] constants
    curve: Curve,
    *,
    banned: Entries,  # in order of rows
    tile_entries: int,  # inner products held at a time, but those of one row at least
) -> Tensor:  # scalar
    """The gradients are made beside the value, so every tile is made once."""
    return _CurveSum.apply(query, keys, weights.detach(), curve, banned, tile_entries, torch.is_grad_enabled())


class _CurveSum(Function):
    @staticmethod
    def forward(ctx, query, keys, weights, curve, banned, tile_entries, learn):
        total, near, far = query.new_zeros(()), torch.zeros_like(query), torch.zeros_like(keys)
        height = max(1, tile_entries // max(1, len(keys)))
        edges = torch.arange(0, len(query) + height, height, device=query.device)
        cuts = torch.searchsorted(banned[0].contiguous(), edges).tolist()
        for number, start in enumerate(range(0, len(query), height)):
            rows, share = query[start : start + height], weights[start : start + height]
            out = slice(cuts[number], cuts[number + 1])
            left_out = banned[0][out] - start, banned[1][out]
            value, slope = curve(rows @ keys.T)
            value[left_out] = 0
            total += share @ value.sum(1)
            if learn:
                slope[left_out] = 0
                near[start : start + height] = (slope @ keys) * share[:, None]
                far.addmm_(slope.T, rows * share[:, None])
        ctx.save_for_backward(near, far)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        near, far = ctx.saved_tensors
        return grad * near, grad * far, *[None] * 5
