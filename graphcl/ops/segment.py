"""Reductions over segments: runs of consecutive rows, told by pointers as in a CSR matrix.

Where torch-scatter is installed (the extra ``scatter``) its kernels do it, through PyG's helper, and on CUDA without atomic additions,
whose order varies; else torch does. On CPU both add a segment's rows in their order, so a sum has the same bits either way.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor


def segment_sum(
    values: Tensor,  # [E, ...]
    pointers: Tensor,  # [n + 1] int64, rising from 0 to E
) -> Tensor:  # [n, ...]
    """Sum of each segment, 0 for an empty one."""
    kernel = scatter_kernel()
    if kernel is not None:
        return kernel(values, pointers, "sum")
    rows = segment_numbers(pointers)
    return values.new_zeros((len(pointers) - 1, *values.shape[1:])).index_add(0, rows, values)


def segment_max(values: Tensor, pointers: Tensor) -> Tensor:  # [E], [n + 1] -> [n]
    """Largest value of each segment, -inf for an empty one; not differentiable."""
    values = values.detach()
    kernel = scatter_kernel()
    if kernel is not None:
        return kernel(values, pointers, "max").masked_fill(pointers.diff() == 0, -torch.inf)  # the kernel's is 0
    rows = segment_numbers(pointers)
    return values.new_full((len(pointers) - 1,), -torch.inf).scatter_reduce(0, rows, values, "amax")


def segment_log_sum_exp(values: Tensor, pointers: Tensor) -> Tensor:  # [E], [n + 1] -> [n]
    """``log sum exp`` of each segment; -inf, without a gradient, for one that is empty or holds nothing but -inf."""
    top = segment_max(values, pointers)
    top = torch.where(top == -torch.inf, 0.0, top)
    total = segment_sum((values - top[segment_numbers(pointers)]).exp(), pointers)
    some = total != 0  # NaN stays, to be seen
    return torch.where(some, top + torch.where(some, total, 1.0).log(), -torch.inf)


def segment_numbers(pointers: Tensor) -> Tensor:
    """The segment of each row, int64 [E]."""
    return torch.repeat_interleave(torch.arange(len(pointers) - 1, device=pointers.device), pointers.diff())


def row_pointers(rows: Tensor, num_rows: int) -> Tensor:  # [E] in any order -> [num_rows + 1]
    """Where each row's entries begin and end once they stand in order of rows."""
    return pointers_of(torch.bincount(rows, minlength=num_rows))


def pointers_of(counts: Tensor) -> Tensor:  # [n] -> [n + 1]
    """Where segments of these sizes begin and end."""
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


@cache
def scatter_kernel() -> Callable[[Tensor, Tensor, str], Tensor] | None:
    """PyG's segment reduction over torch-scatter's kernels; None where that is not installed."""
    if importlib.util.find_spec("torch_scatter") is None:
        return None
    from torch_geometric import typing
    from torch_geometric.utils import segment

    return segment if typing.WITH_TORCH_SCATTER else None
