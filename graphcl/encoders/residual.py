"""Propagation with an activation and a skip connection."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor, nn

from graphcl.contracts import Layers, Perturb
from graphcl.encoders.fold import history_operators
from graphcl.encoders.table import initial_table
from graphcl.graph import Graph


class ResidualGCN(nn.Module):
    """``E(l+1) = E(l) + leaky(A~ E(l))`` from a trainable table over all nodes; no weights but the table.

    ``slope`` is the leaky rectifier's, for negative entries: 1 leaves the product as it is.

    Source: LightGCL's paper, Cai et al., ICLR 2023, equations 2 and 3; HKUDS/LightGCL@5590453, old_setting/model.py.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],  # rows of each kind, in graph order
        dim: int,
        num_layers: int,
        *,
        slope: float = 0.5,
        rng: torch.Generator,
    ):
        super().__init__()
        if num_layers < 0 or dim < 1:
            raise ValueError(f"num_layers must be 0 or more and dim 1 or more, got {num_layers} and {dim}")
        self.num_layers, self.slope = num_layers, slope
        self.embedding = nn.Parameter(initial_table(sizes, dim, "xavier", rng))

    def forward(self, inputs: Graph, *, rng: torch.Generator | None = None, perturb: Perturb | None = None) -> Layers:
        h: Tensor = self.embedding if inputs.ids is None else self.embedding[inputs.ids]
        each = [h]
        for number in range(self.num_layers):
            h = h + F.leaky_relu(inputs.op(number) @ h, self.slope)
            if perturb is not None:
                assert rng is not None
                h = perturb(h, rng)
            each.append(h)
        return Layers(tuple(each))

    def fold_in(self, inputs: Graph, layers: Layers, histories: sparse.csr_matrix) -> Layers:
        """New users' layers: zero at layer 0, for they have no row, then what their items send, added up."""
        items = inputs.kinds["item"]
        each = [layers[0].new_zeros(histories.shape[0], layers[0].shape[1])]
        for number, op in enumerate(history_operators(inputs, histories, self.num_layers, layers[0].device)):
            each.append(each[-1] + F.leaky_relu(op @ layers[number][items], self.slope))
        return Layers(tuple(each))
