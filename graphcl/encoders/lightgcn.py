"""LightGCN's propagation: no weights, no activation."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from scipy import sparse
from torch import Tensor, nn

from graphcl.contracts import Layers, Perturb
from graphcl.encoders.fold import history_operators
from graphcl.encoders.table import initial_table
from graphcl.graph import Graph
from graphcl.ops import Operator, draw_key, unit_rows


class LightGCN(nn.Module):
    """``E(l+1) = A~ E(l)`` from a trainable table over all nodes.

    ``unit`` normalises rows before each product (LightGCN++).

    Source: He et al., SIGIR 2020; LightGCN++: Lee et al., RecSys 2024.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],  # rows of each kind, in graph order
        dim: int,
        num_layers: int,
        *,
        init: str | float = "xavier",  # or the standard deviation of a normal
        unit: bool = False,
        rng: torch.Generator,
    ):
        super().__init__()
        if num_layers < 0 or dim < 1:
            raise ValueError(f"num_layers must be 0 or more and dim 1 or more, got {num_layers} and {dim}")
        self.num_layers, self.unit = num_layers, unit
        self.embedding = nn.Parameter(initial_table(sizes, dim, init, rng))

    def forward(self, inputs: Graph, *, rng: torch.Generator | None = None, perturb: Perturb | None = None) -> Layers:
        h: Tensor = self.embedding if inputs.ids is None else self.embedding[inputs.ids]
        each = [h]
        for number in range(self.num_layers):
            op, x = inputs.op(number), unit_rows(h) if self.unit else h
            key = 0 if perturb is None or rng is None else draw_key(rng)
            if number == self.num_layers - 1:
                return Layers.deferring(tuple(each), partial(_propagate, op, x, perturb, key))
            h = _propagate(op, x, perturb, key)
            each.append(h)
        return Layers(tuple(each))

    def fold_in(self, inputs: Graph, layers: Layers, histories: sparse.csr_matrix) -> Layers:
        """New users' layers: zero at layer 0, for they have no row, then what their items send."""
        items = inputs.kinds["item"]
        each = [layers[0].new_zeros(histories.shape[0], layers[0].shape[1])]
        for number, op in enumerate(history_operators(inputs, histories, self.num_layers, layers[0].device)):
            x = layers[number][items]
            each.append(op @ (unit_rows(x) if self.unit else x))
        return Layers(tuple(each))


def _propagate(op: Operator, x: Tensor, perturb: Perturb | None, key: int, rows: Tensor | None = None) -> Tensor:
    """One layer, all of it or some rows; the same draws either way, for they come from ``key`` and a row's number."""
    some = op if rows is None else op.rows(rows)
    if perturb is None:
        return some @ x
    return perturb.after(some, x, torch.Generator().manual_seed(key), rows)
