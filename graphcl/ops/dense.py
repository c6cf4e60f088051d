"""Row operations on tables: gather with a cheap backward, lengths, unit rows."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from graphcl.ops.kernels import scatter_add


def add_rows(table: Tensor, rows: Tensor, values: Tensor) -> Tensor:  # [N, d], [n], [n, d] -> [N, d]
    """``table[rows] += values`` in place, repeats adding up in a fixed order on CPU; not differentiable."""
    if table.device.type == "cpu":
        scatter_add(rows.numpy(), values.contiguous().numpy(), table.numpy())
        return table
    return table.index_add_(0, rows, values)


class _Gather(Function):
    @staticmethod
    def forward(ctx, table, rows):
        ctx.save_for_backward(rows)
        ctx.num_rows = len(table)
        return table.index_select(0, rows)

    @staticmethod
    def backward(ctx, grad):
        (rows,) = ctx.saved_tensors
        return add_rows(grad.new_zeros((ctx.num_rows, grad.shape[1])), rows, grad), None


def gather_rows(
    table: Tensor,  # [N, d]
    rows: Tensor,  # [n] int64
) -> Tensor:  # [n, d]
    """``table[rows]``; its backward scatters in one pass, where torch's sorts or serialises."""
    return _Gather.apply(table, rows)


def row_norm(x: Tensor) -> Tensor:  # [n, d] -> [n, 1]
    """Length of each row. Norms over d go through here, so that a column-sharded table needs one change."""
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True)


def unit_rows(x: Tensor, floor: float = 1e-12) -> Tensor:  # [n, d]
    """Rows of length one. A row shorter than ``floor`` has no direction: it becomes zero, and so does its gradient.

    (Dividing by ``max(length, floor)`` instead lets a zero row's gradient through 1e12 times enlarged, and where it meets
    its own negative in a residual layer nothing else in the sum survives rounding.)
    """
    return _UnitRows.apply(x, floor)


def divisor(x: Tensor, floor: float = 1e-12) -> Tensor:  # [n, d] -> [n, 1]
    """Length of each row, infinite for one without a direction: x over it is zero there."""
    length = row_norm(x)
    return length.masked_fill((length < floor) | (length == 0), torch.inf)  # in half precision the floor is 0


class _UnitRows(Function):
    """y = x / |x|, and back (g - y <g, y>) / |x|: half the operations of the quotient's own backward."""

    @staticmethod
    def forward(ctx, x, floor):
        length = divisor(x, floor)
        y = x / length
        ctx.save_for_backward(y, length)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        y, length = ctx.saved_tensors
        return (grad - y * (grad * y).sum(-1, keepdim=True)) / length, None


def row_numbers(ids) -> Tensor:  # [n] -> [n] int64
    """Row numbers as a tensor. Raises ValueError for a mask, or anything else but integers, which would pass as other rows."""
    ids = torch.as_tensor(ids)
    if len(ids) and (ids.dtype == torch.bool or ids.is_floating_point()):
        raise ValueError(
            f"row numbers are integers, got {ids.dtype}" + ("; of a mask its nonzero()" if ids.dtype == torch.bool else "")
        )
    return ids.long()


def drawn_linear(inputs: int, outputs: int, rng: torch.Generator) -> nn.Linear:
    """A layer with torch's default distribution, drawn from ``rng``."""
    made = nn.utils.skip_init(nn.Linear, inputs, outputs)
    for parameter in (made.weight, made.bias):
        nn.init.uniform_(parameter, -(inputs**-0.5), inputs**-0.5, generator=rng)
    return made
