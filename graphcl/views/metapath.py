"""Meta-path contexts: how a node looks along each meta-path."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from graphcl.ops import Operator


class MetaPathContexts(nn.Module):
    """``ELU(h_i + sum_t dropout(U_t c_i^t))`` for each meta-path, with c_i^t the mean of the type-t nodes that i sees along it.

    ``U`` has no bias and is a matrix of its own for each place of each meta-path.

    Source: jianxiangyu/MEOW@6a072d7.
    """

    def __init__(self, places: Sequence[int], dim: int, dropout: float = 0.0):  # contexts of each meta-path
        super().__init__()
        self.dropout = dropout
        self.maps = nn.ModuleList(nn.ModuleList(nn.Linear(dim, dim, bias=False) for _ in range(n)) for n in places)

    def content(self, path: int, means: Sequence[tuple[Operator, Tensor]]) -> Tensor:  # [N, d]
        """What the nodes on the way say, before it is added to a node's own table: the mean over each context's table [n_t, d]."""
        maps = self.maps[path]
        assert isinstance(maps, nn.ModuleList)
        terms = [
            functional.dropout(linear(mean @ table), self.dropout, self.training)
            for (mean, table), linear in zip(means, maps, strict=True)
        ]
        return torch.stack(terms).sum(0)

    def forward(self, own: Tensor, content: Tensor) -> Tensor:
        return functional.elu(own + content)
