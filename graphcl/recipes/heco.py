"""HeCo: the network-schema view against the meta-path view, several positives a node.

Paper: Wang et al., "Self-supervised Heterogeneous Graph Neural Network with Co-contrastive Learning", KDD 2021.
Checked against: liun-online/HeCo@20e8ca2.

Positives of a node are the ``num_positives`` nodes that most meta-paths join it to (equation 10 of the paper), ties at random, and the
node itself. ``released=True`` takes the positives that the release ships with a data set instead (``pos.npz``), where there are some.
Types beside the target have embedding tables, as released, also where there are features of theirs.

Departs: a node is always its own positive, which on the release's ACM 923 nodes are not; the weights of the lowest loss are those after
that step; biases begin at 0, where the release leaves those of ``nn.Linear``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from graphcl.contracts import Batches, Pair, Table, Targets, Terms
from graphcl.data.nodes import NodeData
from graphcl.encoders.projection import Projection
from graphcl.encoders.schema import SchemaEncoder
from graphcl.encoders.semantic import SemanticAttention
from graphcl.graph import normalised_adjacency
from graphcl.objectives import InfoNCE
from graphcl.objectives.negatives import AllKeys
from graphcl.ops import Operator, Sparse, draw_key, uniform
from graphcl.ops.neighbours import sampled_neighbours
from graphcl.ops.sparse import csr_tensor
from graphcl.recipes.metapaths import step as step
from graphcl.recipes.metapaths import sum_to_one, whole, widths
from graphcl.recipes.settings import Pretraining, check_counts
from graphcl.streams import borrowed
from graphcl.train import evaluating

KIND = "hetero"


@dataclass(frozen=True)
class Config(Pretraining):
    learning_rate: float = 8e-4
    temperature: float = 0.8  # tau
    feature_dropout: float = 0.3
    attention_dropout: float = 0.5
    samples: dict | None = None  # neighbours drawn of each type beside the target; None: num_samples of every such type
    num_samples: int = 5
    num_positives: int = 5  # T_pos
    balance: float = 0.5  # lambda, the share of the meta-path side
    released: bool = False


PRESETS: dict[str, dict] = {
    "hetero/acm": {
        "learning_rate": 8e-4, "patience": 5, "temperature": 0.8, "feature_dropout": 0.3, "attention_dropout": 0.5,
        "samples": {"A": 7, "S": 1}, "num_positives": 5, "probe_learning_rate": 0.05,
    },
    "hetero/dblp": {
        "learning_rate": 8e-4, "patience": 30, "temperature": 0.9, "feature_dropout": 0.4, "attention_dropout": 0.35,
        "samples": {"P": 6}, "num_positives": 1000, "probe_learning_rate": 0.01,
    },
    "hetero/aminer": {
        "learning_rate": 3e-3, "patience": 40, "temperature": 0.5, "feature_dropout": 0.5, "attention_dropout": 0.5,
        "samples": {"A": 3, "R": 8}, "num_positives": 15, "probe_learning_rate": 0.01,
    },
}  # fmt: skip
SPACE: dict[str, tuple | list] = {
    "learning_rate": (2e-4, 5e-3, "log"),
    "temperature": (0.3, 1.0),
    "feature_dropout": (0.0, 0.6),
    "attention_dropout": (0.0, 0.6),
    "num_positives": [5, 10, 15, 50, 100, 1000],
}


@dataclass(frozen=True, eq=False)
class Inputs:
    x: Operator | Tensor | None  # of the target
    paths: tuple[Sparse, ...]  # [N, N] each
    relations: Mapping[str, sparse.csr_matrix]  # target to each type beside it
    samples: Mapping[str, int]
    positives: Tensor  # CSR [N, N]

    def to(self, device: torch.device | str) -> Inputs:
        x = None if self.x is None else self.x.to(device)
        return replace(self, x=x, paths=tuple(op.to(device) for op in self.paths), positives=self.positives.to(device))


def inputs(config: Config, data: NodeData, *, rng: torch.Generator) -> Inputs:
    graph = data.graph
    beside = {b if a == graph.target else a for a, b in graph.relations if graph.target in (a, b)} - {graph.target}
    samples = dict.fromkeys(sorted(beside), config.num_samples) if config.samples is None else config.samples
    check_counts("samples", samples.values(), 1)
    if unknown := set(samples) - beside:
        raise ValueError(
            f"setting 'samples' names {', '.join(sorted(unknown))}; types beside {graph.target}: {', '.join(sorted(beside))}"
        )
    booleans = [(graph.pathsim(path, None) > 0).astype(np.float32) for path in data.metapaths]
    if config.released and data.positives is not None:
        chosen = sparse.csr_matrix(data.positives != 0)
    else:
        chosen = most_joined(booleans, config.num_positives, rng)
    table = graph.x.get(graph.target)
    x = None if table is None else sum_to_one(table)
    return Inputs(
        Sparse.from_scipy(x) if isinstance(x, sparse.csr_matrix) else x,
        tuple(normalised_adjacency(pattern) for pattern in booleans),
        {name: graph.relation(graph.target, name) for name in samples},
        samples,
        csr_tensor(chosen.astype(np.float32)),
    )  # fmt: skip


def most_joined(patterns: list[sparse.csr_matrix], count: int, rng: torch.Generator) -> sparse.csr_matrix:  # [N, N]
    """Of each node itself and the nodes that most patterns join it to, ``count`` in all; ties are drawn."""
    if count < 1:
        raise ValueError(f"num_positives must be 1 or more, got {count}")
    total = patterns[0].astype(np.int64)
    for pattern in patterns[1:]:
        total = total + pattern.astype(np.int64)
    n = total.shape[0]
    joined = (
        total + sparse.identity(n, dtype=np.int64, format="csr") * (len(patterns) + 1)
    ).tocoo()  # a node comes first in its row
    draws = uniform(draw_key(rng), torch.arange(joined.nnz))[:, 0].numpy()
    order = np.lexsort((draws, -joined.data, joined.row))
    row, col = joined.row[order], joined.col[order]
    starts = np.searchsorted(row, np.arange(n))
    keep = np.arange(len(row)) - starts[row] < count
    found = sparse.csr_matrix((np.ones(keep.sum(), dtype=np.float32), (row[keep], col[keep])), shape=(n, n))
    found.sort_indices()
    return found


def batches(config: Config, data: NodeData) -> Batches:
    if config.batch_size:
        raise ValueError("heco is full-batch; leave batch_size at 0")
    return whole


def build(config: Config, data: NodeData, prepared: Inputs, *, rng: torch.Generator) -> HeCo:
    with borrowed(rng):
        return HeCo(config, data, prepared)


class HeCo(nn.Module):
    def __init__(self, config: Config, data: NodeData, prepared: Inputs):
        super().__init__()
        if not 0 <= config.balance <= 1:
            raise ValueError(f"balance must lie in [0, 1], got {config.balance}")
        dim, target = config.dim, data.graph.target
        self.target, self.balance = target, config.balance
        columns = widths(data.graph, {target: prepared.x, **dict.fromkeys(prepared.samples)})
        self.features = Projection(columns, dim, config.feature_dropout, init="xavier")
        self.maps = nn.ModuleList(nn.Linear(dim, dim, bias=False) for _ in prepared.paths)
        self.biases = nn.ParameterList(torch.zeros(dim) for _ in prepared.paths)
        self.activations = nn.ModuleList(nn.PReLU() for _ in prepared.paths)
        self.semantic = SemanticAttention(dim, config.attention_dropout)
        self.schema = SchemaEncoder(tuple(prepared.samples), dim, config.attention_dropout)
        self.projection = nn.Sequential(nn.Linear(dim, dim), nn.ELU(), nn.Linear(dim, dim))
        for layer in (*self.maps, self.projection[0], self.projection[2]):
            nn.init.xavier_normal_(layer.weight, gain=1.414)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        self.contrast = InfoNCE(config.temperature, negatives=AllKeys(), several="any")

    def losses(self, inputs: Inputs, batch: Targets, rng: torch.Generator) -> Terms:
        key = draw_key(rng)
        with borrowed(rng):
            own = self.features(self.target, inputs.x)
            tables = {name: self.features(name, None) for name in inputs.samples}
            neighbours = {
                name: torch.from_numpy(sampled_neighbours(inputs.relations[name], count, key + number)).to(own.device)
                for number, (name, count) in enumerate(inputs.samples.items())
            }
            by_path = self.projection(self.by_metapath(inputs, own))
            by_schema = self.projection(self.schema(own, tables, neighbours))
        return {
            "metapath": self.balance * self.contrast(Pair(by_path, Table(by_schema), inputs.positives)),
            "schema": (1 - self.balance) * self.contrast(Pair(by_schema, Table(by_path), inputs.positives)),
        }

    def by_metapath(self, inputs: Inputs, own: Tensor) -> Tensor:  # [N, d]
        layers = zip(inputs.paths, self.maps, self.biases, self.activations, strict=True)
        return self.semantic([activation(op @ linear(own) + bias) for op, linear, bias, activation in layers])

    @torch.no_grad()
    def embed(self, inputs: Inputs) -> Tensor:  # [N, d]
        """The meta-path view, before projection and without dropout."""
        with evaluating(self):
            return self.by_metapath(inputs, self.features(self.target, inputs.x))
