"""HeCo's network-schema view: what the nodes beside a target say, by sampled neighbours of each type."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from graphcl.encoders.projection import parameter_key
from graphcl.encoders.semantic import SemanticAttention


class SchemaEncoder(nn.Module):
    """``e_ij = LeakyReLU(a_t . [h_i | h_j])``, a softmax over the neighbours at hand, ``ELU(sum_j alpha_ij h_j)`` for each type t, and
    semantic attention over types. A target's own table is only the query. Dropout acts on the vectors a.

    A target without neighbours of a type gets zero for it.

    Source: Wang et al., HeCo, KDD 2021; liun-online/HeCo@20e8ca2.
    """

    def __init__(self, types: tuple[str, ...], dim: int, dropout: float = 0.0):
        super().__init__()
        self.dropout = dropout
        self.vectors = nn.ParameterDict({parameter_key(name): nn.Parameter(torch.empty(1, 2 * dim)) for name in types})
        self.types = types
        for vector in self.vectors.values():
            nn.init.xavier_normal_(vector, gain=1.414)
        self.attention = SemanticAttention(dim, dropout)

    def forward(
        self,
        own: Tensor,  # [N, d]
        tables: Mapping[str, Tensor],  # [n_t, d]
        neighbours: Mapping[str, Tensor],  # [N, S_t] int64 rows of each table, repeats count; -1: none
    ) -> Tensor:  # [N, d]
        return self.attention([self.of(name, own, tables[name], neighbours[name]) for name in self.types])

    def of(self, name: str, own: Tensor, table: Tensor, neighbours: Tensor) -> Tensor:  # [N, d]
        vector = functional.dropout(self.vectors[parameter_key(name)][0], self.dropout, self.training)
        asks, answers = vector.chunk(2)
        none = neighbours < 0
        rows = neighbours.clamp_min(0)
        logits = functional.leaky_relu((own @ asks)[:, None] + (table @ answers)[rows], 0.01)
        # A row with no neighbours at all is filled with one number, as -inf throughout would be NaN in the gradient.
        logits = logits.masked_fill(none, -torch.inf).masked_fill(none.all(1, keepdim=True), 0.0)
        shares = logits.softmax(1).masked_fill(none, 0.0)
        return functional.elu((shares[:, None] @ functional.embedding(rows, table))[:, 0])
