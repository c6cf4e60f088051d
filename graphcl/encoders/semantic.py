"""Attention over views: one weight a view, the same for all nodes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class SemanticAttention(nn.Module):
    """``sum_k softmax_k(a . mean_i tanh(W z_i^k + b)) z^k``; dropout acts on the vector a.

    The mean is over the rows at hand: in a batch it is the batch's.

    Source: Wang et al., HAN, WWW 2019; as in liun-online/HeCo@20e8ca2 and jianxiangyu/MEOW@6a072d7.
    """

    def __init__(self, dim: int, dropout: float = 0.0):
        super().__init__()
        self.dropout = dropout
        self.linear = nn.Linear(dim, dim)
        self.vector = nn.Parameter(torch.empty(1, dim))
        nn.init.xavier_normal_(self.linear.weight, gain=1.414)
        nn.init.zeros_(self.linear.bias)
        nn.init.xavier_normal_(self.vector, gain=1.414)

    def forward(self, views: Sequence[Tensor]) -> Tensor:  # K of [n, d] -> [n, d]
        shares = self.shares(views)
        total = shares[0] * views[0]
        for share, view in zip(shares[1:], views[1:], strict=True):
            total = total + share * view
        return total

    def shares(self, views: Sequence[Tensor]) -> Tensor:  # [K]
        vector = functional.dropout(self.vector[0], self.dropout, self.training)
        return torch.stack([vector @ self.linear(view).tanh().mean(0) for view in views]).softmax(0)
