"""A multilayer perceptron over node features, which may be sparse."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from graphcl.ops import Operator, drawn_linear

_ROWS = 2**14  # whose hidden layers are held at a time


class MLP(nn.Module):
    """Linear layers with rectifiers between them: ``widths`` F, ..., d.

    More than 16,384 rows are taken in parts, and a part's hidden layers are made again in the backward pass: memory is that of one
    part and of the output. A first layer over a sparse operator [N, F] is one product with its weights.
    """

    def __init__(self, widths: Sequence[int], *, rng: torch.Generator):
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(f"widths are two or more numbers of 1 or more, got {tuple(widths)}")
        self.layers = nn.ModuleList(drawn_linear(a, b, rng) for a, b in pairwise(widths))

    def forward(self, x: Tensor | Operator) -> Tensor:  # [N, F] -> [N, d]
        layers: list[nn.Module] = list(self.layers)
        begun = not isinstance(x, Tensor)
        if begun:
            first = layers.pop(0)
            hidden = x @ first.weight.T + first.bias  # type: ignore[operator, union-attr]
        else:
            hidden = x  # type: ignore[assignment]
        if len(hidden) <= _ROWS:
            return _through(hidden, layers, begun)
        return torch.cat([checkpoint(_through, part, layers, begun, use_reentrant=False) for part in hidden.split(_ROWS)])


def _through(hidden: Tensor, layers: Sequence[nn.Module], begun: bool) -> Tensor:
    for layer in layers:
        hidden = layer(hidden.relu() if begun else hidden)
        begun = True
    return hidden
