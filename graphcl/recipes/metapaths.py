"""What MEOW and AdaMEOW are trained on, and the two views of it that they contrast."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from graphcl.contracts import Batches, Part, Targets
from graphcl.data.nodes import NodeData
from graphcl.encoders.hgcn import MetaPathGCN, Norm
from graphcl.encoders.projection import Projection
from graphcl.encoders.semantic import SemanticAttention
from graphcl.graph import normalised_adjacency
from graphcl.hetero import Context, Features, HeteroGraph, Tie
from graphcl.ops import Mean, Operator, Sparse, draw_key, truncated_svd, unit_rows
from graphcl.ops.neighbours import joined, restricted, sampled_entries
from graphcl.perturb.metapath import mask_edges, mask_features
from graphcl.recipes.settings import ClusterTraining, Pretraining
from graphcl.streams import borrowed
from graphcl.train import PlainStep, evaluating
from graphcl.views.metapath import MetaPathContexts

Rows: TypeAlias = Operator | Tensor | None  # features of a type; None: it has a table
Masks: TypeAlias = tuple[Rows, tuple[Sparse, ...]]  # of the target's features, and of each meta-path's graph


NUM_LAYERS = 2


@dataclass(frozen=True)
class MetaPathTraining(Pretraining):
    """Settings that MEOW and AdaMEOW share."""

    dropout: float = 0.2
    neighbours: tuple = (100,)  # kept of each node by PathSim, for each meta-path or for all
    stand_in: Literal["table", "svd"] = "table"  # of a type without features: a learned table, or an SVD of its incidences
    feature_mask: float = 0.2  # share of the target's stored features
    edge_mask: tuple = (0.3,)  # share of the edges of each meta-path, or of all
    masks: Literal["static", "epoch"] = "static"  # drawn once, as the release does, or for each epoch anew
    norm: Norm = "matrix"  # "row" where batch_size is set
    fanouts: tuple = (10, 5)  # neighbours drawn of each node for the last and the first layer, where batch_size is set
    distinct_contexts: bool = False
    masked_dropout: bool = True
    released: bool = False


@dataclass(frozen=True, eq=False)
class MetaPaths:
    """Operators over the target nodes, one for each meta-path, and the features of every type that stands on one."""

    target: str
    x: Mapping[str, Rows]
    masked_x: Rows  # of the target
    paths: tuple[Sparse, ...]  # [N, N] each
    masked: tuple[Sparse, ...]
    contexts: tuple[tuple[Context, ...], ...]
    sources: Sources | None = None  # to draw masks anew from; None: they stay

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

    def masks(self, config: MetaPathTraining, rng: torch.Generator) -> Masks:
        """The target's features and each meta-path's graph with some entries left out."""
        table = self.features.get(self.data.graph.target)
        if table is not None:
            table = mask_features(table, config.feature_mask, rng)
        paths = tuple(
            normalised_adjacency(mask_edges(g, part, rng))
            for g, part in zip(self.graphs, each(config.edge_mask, self.data, "edge_mask"), strict=True)
        )
        return _rows(table), paths


def sources(
    data: NodeData, limits: Sequence[int | None], tie: Tie, rng: torch.Generator, stand_ins: Mapping[str, Tensor] | None = None
) -> Sources:
    """Features with rows that sum to one (or what stands for them) and the pruned graph of each meta-path."""
    graphs = tuple(
        data.graph.pathsim(path, k, tie=tie, rng=rng)
        for path, k in zip(data.metapaths, each(limits, data, "neighbours"), strict=True)
    )
    return Sources(data, {name: sum_to_one(table) for name, table in data.graph.x.items()} | dict(stand_ins or {}), graphs)


def inputs(config: MetaPathTraining, data: NodeData, *, rng: torch.Generator) -> MetaPaths:
    """What the recipes train on, with masks drawn."""
    if config.stand_in not in ("table", "svd"):
        raise ValueError(f"stand_in must be table or svd, got {config.stand_in!r}")
    contexts = tuple(data.graph.contexts(path, distinct=config.distinct_contexts) for path in data.metapaths)
    types = {data.graph.target, *(c.type for each in contexts for c in each)}
    bare = types - data.graph.x.keys() if config.stand_in == "svd" else ()
    stand_ins = {name: incidence_svd(data.graph, name, config.dim) for name in bare}
    found = sources(data, config.neighbours, "released" if config.released else "random", rng, stand_ins)
    masked_x, masked = found.masks(config, rng)
    return MetaPaths(
        data.graph.target,
        {name: _rows(found.features.get(name)) for name in sorted(types)},
        masked_x,
        tuple(normalised_adjacency(graph) for graph in found.graphs),
        masked,
        contexts,
        found if config.masks == "epoch" else None,
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


def widths(graph: HeteroGraph, x: Mapping[str, Rows]) -> dict[str, int]:
    """Columns of each type's features; of a type without, its nodes."""
    return {name: graph.counts[name] if rows is None else rows.shape[1] for name, rows in x.items()}


def incidence_svd(graph: HeteroGraph, name: str, dim: int) -> Tensor:  # [n, dim a related type]
    """What a type is beside: for each type that it is related to ``u s`` of its incidences over the fourth roots of both degrees, in
    rows of unit length. There are fewer columns where there are fewer nodes; a related type of one node, or without edges, tells
    nothing."""
    parts = [torch.ones(graph.counts[name], 1)]
    for other in graph.counts:
        if min(graph.counts[name], graph.counts[other]) > 1 and {(name, other), (other, name)} & graph.relations.keys():
            pattern = graph.relation(name, other).astype(np.float32)
            if not pattern.nnz:
                continue
            rows, columns = (
                sparse.diags(np.maximum(pattern.getnnz(axis=side), 1).astype(np.float32) ** -0.25) for side in (1, 0)
            )
            scaled = (rows @ pattern @ columns).tocsr()
            found = truncated_svd(Sparse.from_scipy(scaled), min(dim, min(scaled.shape) - 1))
            parts.append(unit_rows(found.u * found.s))
    return torch.cat(parts[1:] or parts, 1)


def _rows(table: Features | None) -> Rows:
    return Sparse.from_scipy(table) if isinstance(table, sparse.csr_matrix) else table


class CoarseFine(Part):
    """MEOW's two views of the target nodes.

    Coarse: the encoder over the mean of the meta-path graphs. Fine: the encoder over each meta-path's graph, of nodes with their
    contexts, and again with masked features and edges; the 2P results, rows of unit length, are joined by semantic attention. One
    encoder and one projection ``tanh(W z + b)``, rows of unit length, for both.

    Source: jianxiangyu/MEOW@6a072d7.
    """

    def __init__(self, data: NodeData, inputs: MetaPaths, config: MetaPathTraining, projected: int):
        super().__init__()
        if config.batch_size and config.norm == "matrix":
            raise ValueError("norm='matrix' is over all nodes, so batches would change the model; set norm=row with batch_size")
        if config.batch_size and config.released:
            raise ValueError("released=True is full-batch; leave batch_size at 0")
        if len(config.fanouts) != NUM_LAYERS or min(config.fanouts) < 1:
            raise ValueError(f"fanouts are {NUM_LAYERS} numbers of 1 or more, got {config.fanouts}")
        self.config = config
        self._drawn: Masks | None = None  # this epoch's masks, where they are not static
        self.features = Projection(widths(data.graph, inputs.x), config.dim, config.dropout)
        self.contexts = MetaPathContexts([len(each) for each in inputs.contexts], config.dim, config.dropout)
        self.encoder = MetaPathGCN(config.dim, NUM_LAYERS, config.dropout, config.norm)
        self.attention = SemanticAttention(config.dim, config.dropout)
        self.projection = nn.Linear(config.dim, projected)
        # what the release hands out: the last training pass's embedding
        self.last = nn.Buffer(torch.zeros(data.graph.num_targets if config.released else 0, config.dim))

    def start_epoch(self, inputs: MetaPaths, epoch: int, rng: torch.Generator) -> None:  # type: ignore[override]
        if inputs.sources is not None:
            x, paths = inputs.sources.masks(self.config, rng)
            device = inputs.paths[0].col.device
            self._drawn = (None if x is None else x.to(device), tuple(op.to(device) for op in paths))

    def masks(self, inputs: MetaPaths) -> Masks:
        """Of training this epoch's, where these are drawn anew; the embedding is always made with the first."""
        return self._drawn if self.training and self._drawn is not None else (inputs.masked_x, inputs.masked)

    def forward(self, inputs: MetaPaths, batch: Targets, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Coarse and fine projections [b, p] of the batch's targets."""
        with borrowed(rng):
            coarse, fine = self.whole(inputs) if batch.rows is None else self.sampled(inputs, batch.rows, rng)
        if len(self.last):
            self.last.copy_(fine.detach())
        return self.projected(coarse), self.projected(fine)

    def whole(self, inputs: MetaPaths) -> tuple[Tensor, Tensor]:
        """Coarse and fine embeddings [N, d] of every target."""
        tables = self.tables(inputs)
        return self.encoder(tables[inputs.target], Mean(*inputs.paths))[-1], self.fine(inputs, tables)

    @torch.no_grad()
    def embed(self, inputs: MetaPaths) -> Tensor:  # [N, d]
        """The fine embedding without dropout; of ``released`` the last training pass's."""
        if len(self.last):
            return self.last
        with evaluating(self):
            return self.fine(inputs, self.tables(inputs))

    def tables(self, inputs: MetaPaths) -> dict[str, Tensor]:
        return {name: self.features(name, x) for name, x in inputs.x.items()}

    def fine(self, inputs: MetaPaths, tables: Mapping[str, Tensor]) -> Tensor:  # [N, d]
        own = tables[inputs.target]
        masked_x, masked_paths = self.masks(inputs)
        masked = self.features(inputs.target, masked_x, drops=self.config.masked_dropout)
        views = []
        for number, contexts in enumerate(inputs.contexts):
            content = self.contexts.content(number, [(c.mean, tables[c.type]) for c in contexts])
            for table, op in ((own, inputs.paths[number]), (masked, masked_paths[number])):
                views.append(unit_rows(self.encoder(self.contexts(table, content), op)[-1]))
        return self.attention(views)

    def sampled(self, inputs: MetaPaths, rows: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """The same for some targets [b] alone, each layer from ``fanouts`` sampled neighbours, the last layer's first; products keep
        their expectations. No more rows of any table are read than those of these neighbours and their contexts."""
        reached, ops = neighbourhood(inputs.paths, rows, self.config.fanouts, rng)
        coarse = self.encoder(self.features(inputs.target, inputs.x[inputs.target], rows=reached), ops)[-1]
        masked_x, masked_paths = self.masks(inputs)
        views = []
        for number, contexts in enumerate(inputs.contexts):
            for x, path, drops in (
                (inputs.x[inputs.target], inputs.paths[number], True),
                (masked_x, masked_paths[number], self.config.masked_dropout),
            ):
                reached, ops = neighbourhood([path], rows, self.config.fanouts, rng)
                means = []
                for context in contexts:
                    mean, seen = restricted(context.mean, reached)
                    means.append((mean, self.features(context.type, inputs.x[context.type], rows=seen)))
                own = self.features(inputs.target, x, drops=drops, rows=reached)
                views.append(unit_rows(self.encoder(self.contexts(own, self.contexts.content(number, means)), ops)[-1]))
        return coarse, self.attention(views)

    def projected(self, z: Tensor) -> Tensor:
        return unit_rows(self.projection(z).tanh())


def neighbourhood(
    paths: Sequence[Sparse], rows: Tensor, fanouts: Sequence[int], rng: torch.Generator
) -> tuple[Tensor, list[Operator]]:
    """What some targets read through the mean of ``paths``: the nodes [c] at the bottom, and an operator for each layer, the first first.

    Of each node about ``fanout`` neighbours are drawn, shared out among the paths.
    """
    ops: list[Operator] = []
    for fanout in fanouts:
        share = max(1, fanout // len(paths))
        op, rows = joined([sampled_entries(path, rows, share, draw_key(rng)) for path in paths])
        ops.insert(0, op)
    return rows, ops


def shuffled(batch_size: int, num_targets: int) -> Batches:
    """Every target once an epoch, in random order: ids often follow the classes. A last batch that is not full is left out."""
    if not 1 <= batch_size <= num_targets:
        raise ValueError(
            f"batch_size must lie between 1 and the number of targets, {num_targets}, or be 0 for all, got {batch_size}"
        )

    def batches(rng: torch.Generator) -> Iterator[Targets]:
        order = torch.randperm(num_targets, generator=rng)
        for start in range(0, num_targets - batch_size + 1, batch_size):
            yield Targets(order[start : start + batch_size])

    return batches


def batches(config: MetaPathTraining, data: NodeData) -> Batches:
    """All targets in one step, or ``batch_size`` at a time."""
    return shuffled(config.batch_size, data.graph.num_targets) if config.batch_size else whole


def whole(rng: torch.Generator) -> Iterator[Targets]:
    yield Targets()


def step(config: Pretraining | ClusterTraining, model: nn.Module) -> PlainStep:
    return PlainStep(model, config.learning_rate, weight_decay=config.weight_decay)
