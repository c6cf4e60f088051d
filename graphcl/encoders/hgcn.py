"""Graph convolution over a meta-path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from graphcl.contracts import Layers
from graphcl.ops import Operator

Norm = Literal["matrix", "row", "none"]


class MetaPathGCN(nn.Module):
    """``A (dropout(X W))`` twice, PReLU between, no bias; then a normalisation without parameters. One for all meta-paths.

    ``norm``: "matrix" takes one mean and variance over all nodes and columns, as the release does: a node's embedding then depends on
    every node at hand, so batches change it. "row" normalises each node by itself, and may be used in batches.

    Source: jianxiangyu/MEOW@6a072d7.
    """

    def __init__(self, dim: int, num_layers: int = 2, dropout: float = 0.0, norm: Norm = "matrix"):
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers must be 1 or more, got {num_layers}")
        if norm not in get_args(Norm):
            raise ValueError(f"norm must be one of {', '.join(get_args(Norm))}, got {norm!r}")
        self.dropout, self.norm = dropout, norm
        bound = dim**-0.5
        self.weights = nn.ParameterList(torch.empty(dim, dim).uniform_(-bound, bound) for _ in range(num_layers))
        self.activation = nn.PReLU()

    def forward(
        self, x: Tensor, ops: Operator | Sequence[Operator]
    ) -> Layers:  # [N, d] -> L + 1 of [N, d], the last one normalised
        """``ops``: one for all layers, or one for each: then a layer may have fewer rows than the one before."""
        each = [x]
        for number, weight in enumerate(self.weights):
            op = ops[number] if isinstance(ops, Sequence) else ops
            h = op @ functional.dropout(each[-1] @ weight, self.dropout, self.training)
            each.append(self.normalised(h) if number == len(self.weights) - 1 else self.activation(h))
        return Layers(tuple(each))

    def normalised(self, h: Tensor) -> Tensor:
        if self.norm == "none":
            return h
        return functional.layer_norm(h, h.shape if self.norm == "matrix" else h.shape[-1:])
