"""The floor on heterogeneous graphs: a truncated SVD of the features, smoothed along the meta-paths. Nothing is learned.

The mean over meta-paths of the symmetrically normalised boolean graphs, ``num_hops`` times; rows of unit length. A target type without
features takes one SVD for each type that it is related to, of its incidences (``metapaths.incidence_svd``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphcl.data.nodes import NodeData
from graphcl.graph import normalised_adjacency
from graphcl.ops import Mean, Sparse, truncated_svd, unit_rows
from graphcl.recipes.metapaths import incidence_svd, sum_to_one

KIND = "hetero"


@dataclass(frozen=True)
class Config:
    dim: int = 64
    num_hops: int = 2
    probe_learning_rate: float = 0.05
    probe_weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.num_hops < 0:
            raise ValueError(f"num_hops must be 0 or more, got {self.num_hops}")


PRESETS: dict[str, dict] = {"hetero/aminer": {"num_hops": 12}}  # by the probe on validation nodes, of 1 to 24
SPACE: dict[str, tuple | list] = {"num_hops": (0, 16)}


def embed(config: Config, data: NodeData, *, rng: torch.Generator) -> Tensor:  # [N, d]
    graph = data.graph
    if graph.target in graph.x:
        table = sum_to_one(graph.x[graph.target])
        matrix = table if isinstance(table, sparse.csr_matrix) else sparse.csr_matrix(table.numpy())
        found = truncated_svd(Sparse.from_scipy(matrix), min(config.dim, *matrix.shape))
        h = found.u * found.s
    else:
        h = incidence_svd(graph, graph.target, config.dim)
    hop = Mean(*(normalised_adjacency((graph.pathsim(path, None) > 0).astype(np.float32)) for path in data.metapaths))
    for _ in range(config.num_hops):
        h = hop @ h
    return unit_rows(h)
