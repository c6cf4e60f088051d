"""Layers that are each a hop of the one before, and the rows of all of them that a batch reads, as one function.

    forward    h(l+1) = A(l) h(l), of which only h(l)[rows] is kept; the last hop makes these rows alone
    backward   g(l) = A(l)' g(l+1), to which the gradient of h(l)[rows] is added where it belongs

A hop forward and back costs one product each, 4 bytes an edge and one row of the table an edge. Nothing but ``rows`` is kept for
the backward, for the hops are linear (noise is a constant), and two tables [N, d] pass the layers on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from graphcl.contracts import Layers, Perturb
from graphcl.ops import Operator, Sparse, add_rows, gather_rows, unit_rows


@dataclass(frozen=True, eq=False)
class Hop:
    """From one layer to the next. Draws come from ``key`` and a row's number, so some rows get what they get among all."""

    op: Operator
    unit: bool  # rows are normalised before the product
    perturb: Perturb | None
    key: int

    def __call__(self, x: Tensor, rows: Tensor | None = None) -> Tensor:
        """[N, d] -> [N, d], or the rows [n, d] of it."""
        op, x = self.op if rows is None else self.op.rows(rows), unit_rows(x) if self.unit else x
        return op @ x if self.perturb is None else self.perturb.after(op, x, torch.Generator().manual_seed(self.key), rows)

    @property
    def linear(self) -> bool:
        return (
            isinstance(self.op, Sparse) and not self.unit and (self.perturb is None or getattr(self.perturb, "constant", False))
        )


def propagated(h: Tensor, hops: Sequence[Hop]) -> Layers:
    """``h`` [N, d] and what each hop makes of the one before."""
    if not hops:
        return Layers((h,))
    if all(hop.linear for hop in hops):
        return Layers.growing(h, hops, lambda _, rows: _Chain.apply(h, hops, rows))
    return Layers.growing(h, hops, lambda each, rows: (*(gather_rows(x, rows) for x in each[:-1]), hops[-1](each[-2], rows)))


class _Chain(Function):
    @staticmethod
    def forward(ctx, h, hops, rows):
        ctx.hops, ctx.rows = hops, rows
        ctx.set_materialize_grads(False)
        near = [h.index_select(0, rows)]
        for hop in hops[:-1]:
            h = hop(h)
            near.append(h.index_select(0, rows))
        return (*near, hops[-1](h, rows))

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):
        *kept, last = grads
        ops = [hop.op for hop in ctx.hops]
        total: Tensor | None = None if last is None else ops[-1].rows(ctx.rows).adjoint(last)  # None: nothing flows back so far
        for number in reversed(range(len(ops))):
            if total is not None and number < len(ops) - 1:
                total = ops[number].T @ total
            if kept[number] is not None:
                total = kept[number].new_zeros((ops[0].shape[1], kept[number].shape[1])) if total is None else total
                add_rows(total, ctx.rows, kept[number])
        return total, None, None
