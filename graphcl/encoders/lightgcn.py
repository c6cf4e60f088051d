"""LightGCN's propagation: no weights, no activation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from scipy import sparse
from torch import Tensor, nn

from graphcl.contracts import Layers, Perturb
from graphcl.graph import Graph
from graphcl.ops import Sparse, unit_rows


class LightGCN(nn.Module):
    """``E(l+1) = A~ E(l)`` from a trainable table over all nodes.

    ``unit`` normalises rows before each product (LightGCN++). The table holds every kind in one tensor, since the product
    reads it whole; each kind's block is initialised by its own size.

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
        self.embedding = nn.Parameter(torch.cat([_block(n, dim, init, rng) for n in sizes.values()]))

    def forward(self, inputs: Graph, *, rng: torch.Generator | None = None, perturb: Perturb | None = None) -> Layers:
        h: Tensor = self.embedding if inputs.ids is None else self.embedding[inputs.ids]
        each = [h]
        for number in range(self.num_layers):
            op = inputs.op(number)
            x = unit_rows(h) if self.unit else h
            h = op @ x if perturb is None else perturb.after(op, x, rng)
            each.append(h)
        return Layers(tuple(each))

    def fold_in(self, inputs: Graph, layers: Layers, histories: sparse.csr_matrix) -> Layers:
        """New users' layers: zero at layer 0, for they have no row, then what their items send.

        Items keep the layers and degrees that they have without these users, so one user's embedding depends on nobody else's.
        """
        items = inputs.kinds["item"]
        pattern = Sparse.from_scipy((histories != 0).astype("float32")).to(layers[0].device)
        each = [layers[0].new_zeros(histories.shape[0], layers[0].shape[1])]
        for number in range(self.num_layers):
            sending = inputs.op(number)
            assert isinstance(sending, Sparse)
            left = pattern.degrees().clamp_min(1).double().pow(-inputs.exponents[0]).to(sending.left.dtype)
            x = layers[number][items]
            each.append(pattern.scaled(left, sending.right[items].contiguous()) @ (unit_rows(x) if self.unit else x))
        return Layers(tuple(each))


def _block(rows: int, dim: int, init: str | float, rng: torch.Generator) -> Tensor:
    table = torch.empty(rows, dim)
    if init == "xavier":  # bound sqrt(6 / (rows + dim)) on each kind's own table, as the contrastive releases do
        bound = (6 / (rows + dim)) ** 0.5
        return table.uniform_(-bound, bound, generator=rng)
    return table.normal_(0, float(init), generator=rng)
