"""What MEOW and AdaMEOW are trained on, and the two views of it that they contrast."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from graphcl.data.nodes import NodeData
from graphcl.encoders.hgcn import MetaPathGCN
from graphcl.encoders.projection import Projection
from graphcl.encoders.semantic import SemanticAttention
from graphcl.hetero import Context, Features, Tie
from graphcl.ops import Mean, Operator, Sparse, unit_rows
from graphcl.perturb.metapath import convolution, mask_edges, mask_features
from graphcl.views.metapath import MetaPathContexts

Rows: TypeAlias = Operator | Tensor | None  # features of a type; None: it has a table


@dataclass(frozen=True, eq=False)
class MetaPaths:
    """Operators over the target nodes, one for each meta-path, and the features of every type that stands on one."""

    target: str
    x: Mapping[str, Rows]
    masked_x: Rows  # of the target
    paths: tuple[Sparse, ...]  # [N, N] each
    masked: tuple[Sparse, ...]
    contexts: tuple[tuple[Context, ...], ...]

    def to(self, device: torch.device | str) -> MetaPaths:
        def moved(rows: Rows) -> Rows:
            return None if rows is None else rows.to(device)

        return replace(
            self,
            x={name: moved(rows) for name, rows in self.x.items()},
            masked_x=moved(self.masked_x),
            paths=tuple(op.to(device) for op in self.paths),
            masked=tuple(op.to(device) for op in self.masked),
            contexts=tuple(tuple(Context(c.type, c.mean.to(device)) for c in each) for each in self.contexts),
        )


@dataclass(frozen=True, eq=False)
class Sources:
    """What masks are drawn from."""

    data: NodeData
    features: Mapping[str, Features]  # rows sum to one, as the releases have them, but for dense tables
    graphs: tuple[sparse.csr_matrix, ...]  # pruned, path counts

    def masks(self, feature_mask: float, edge_mask: Sequence[float], rng: torch.Generator) -> tuple[Rows, tuple[Sparse, ...]]:
        table = self.features.get(self.data.graph.target)
        if isinstance(table, sparse.csr_matrix):
            table = mask_features(table, feature_mask, rng)
        paths = tuple(convolution(mask_edges(g, part, rng)) for g, part in zip(self.graphs, edge_mask, strict=True))
        return _rows(table), paths


def sources(data: NodeData, limits: Sequence[int | None], tie: Tie, rng: torch.Generator) -> Sources:
    """Features with rows that sum to one and the pruned graph of each meta-path."""
    graphs = tuple(
        data.graph.pathsim(path, k, tie=tie, rng=rng)
        for path, k in zip(data.metapaths, each(limits, data, "neighbours"), strict=True)
    )
    return Sources(data, {name: sum_to_one(table) for name, table in data.graph.x.items()}, graphs)


def metapaths(
    found: Sources, feature_mask: float, edge_mask: Sequence[float], *, distinct: bool = False, rng: torch.Generator
) -> MetaPaths:
    """``found`` as operators, with masks drawn once."""
    data = found.data
    contexts = tuple(data.graph.contexts(path, distinct=distinct) for path in data.metapaths)
    types = {data.graph.target, *(c.type for each in contexts for c in each)}
    masked_x, masked = found.masks(feature_mask, each(edge_mask, data, "edge_mask"), rng)
    return MetaPaths(
        data.graph.target,
        {name: _rows(found.features.get(name)) for name in sorted(types)},
        masked_x,
        tuple(convolution(graph) for graph in found.graphs),
        masked,
        contexts,
    )


def each(values: Sequence[Any], data: NodeData, name: str) -> tuple[Any, ...]:
    """One value for each meta-path; a single one stands for all. Raises ValueError for another number."""
    if len(values) == 1:
        return tuple(values) * len(data.metapaths)
    if len(values) != len(data.metapaths):
        raise ValueError(
            f"setting {name!r} has {len(values)} values, but {data.name} has {len(data.metapaths)} meta-paths: "
            f"{', '.join(data.metapaths)}"
        )
    return tuple(values)


def sum_to_one(table: Features) -> Features:
    """Sparse rows divided by their sums, rows without entries left as they are; dense tables unchanged."""
    if isinstance(table, Tensor):
        return table
    sums = np.asarray(table.sum(axis=1), dtype=np.float64).ravel()
    return (sparse.diags(np.divide(1.0, sums, out=np.zeros_like(sums), where=sums != 0)) @ table).tocsr().astype(np.float32)


def widths(data: NodeData, types: Sequence[str]) -> dict[str, int]:
    """Columns of each type's features; of a type without, its nodes."""
    graph = data.graph
    return {name: graph.x[name].shape[1] if name in graph.x else graph.counts[name] for name in types}


def _rows(table: Features | None) -> Rows:
    return Sparse.from_scipy(table) if isinstance(table, sparse.csr_matrix) else table


class CoarseFine(nn.Module):
    """MEOW's two views of the target nodes.

    Coarse: the encoder over the mean of the meta-path graphs. Fine: the encoder over each meta-path's graph, of nodes with their
    contexts, and again with masked features and edges; the 2P results, rows of unit length, are joined by semantic attention. One
    encoder and one projection ``tanh(W z + b)``, rows of unit length, for both.

    Source: jianxiangyu/MEOW@6a072d7.
    """

    def __init__(
        self, data: NodeData, inputs: MetaPaths, dim: int, projected: int, dropout: float, *, norm: Any, masked_dropout: bool
    ):
        super().__init__()
        self.masked_dropout = masked_dropout
        self.features = Projection(widths(data, list(inputs.x)), dim, dropout)
        self.contexts = MetaPathContexts([len(each) for each in inputs.contexts], dim, dropout)
        self.encoder = MetaPathGCN(dim, 2, dropout, norm)
        self.attention = SemanticAttention(dim, dropout)
        self.projection = nn.Linear(dim, projected)

    def forward(self, inputs: MetaPaths) -> tuple[Tensor, Tensor, Tensor]:
        """Coarse projection [N, p], fine embedding [N, d], fine projection [N, p]."""
        tables = {name: self.features(name, x) for name, x in inputs.x.items()}
        own = tables[inputs.target]
        coarse = self.encoder(own, Mean(*inputs.paths))[-1]
        fine = self.fine(inputs, tables, own)
        return self.projected(coarse), fine, self.projected(fine)

    def fine(self, inputs: MetaPaths, tables: Mapping[str, Tensor], own: Tensor) -> Tensor:  # [N, d]
        masked = self.features(inputs.target, inputs.masked_x, drops=self.masked_dropout)
        views = []
        for number, contexts in enumerate(inputs.contexts):
            content = self.contexts.content(number, contexts, tables)
            for table, op in ((own, inputs.paths[number]), (masked, inputs.masked[number])):
                views.append(unit_rows(self.encoder(self.contexts(table, content), op)[-1]))
        return self.attention(views)

    def projected(self, z: Tensor) -> Tensor:
        return unit_rows(self.projection(z).tanh())
