"""LightGCN's propagation: no weights, no activation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from scipy import sparse
from torch import Tensor, nn

from graphcl.contracts import Layers, Perturb
from graphcl.encoders.chain import Hop, propagated
from graphcl.encoders.fold import history_operators
from graphcl.encoders.table import initial_table
from graphcl.graph import Graph
from graphcl.ops import draw_key, unit_rows


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
        assert perturb is None or rng is not None
        h: Tensor = self.embedding if inputs.ids is None else self.embedding[inputs.ids]
        hops = [
            Hop(inputs.op(number), self.unit, perturb, 0 if rng is None or perturb is None else draw_key(rng))
            for number in range(self.num_layers)
        ]
        return propagated(h, hops)

    def fold_in(self, inputs: Graph, layers: Layers, histories: sparse.csr_matrix) -> Layers:
        """New users' layers: zero at layer 0, for they have no row, then what their items send."""
        items = inputs.kinds["item"]
        each = [layers[0].new_zeros(histories.shape[0], layers[0].shape[1])]
        for number, op in enumerate(history_operators(inputs, histories, self.num_layers, layers[0].device)):
            x = layers[number][items]
            each.append(op @ (unit_rows(x) if self.unit else x))
        return Layers(tuple(each))
