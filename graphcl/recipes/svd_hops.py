"""The floor on heterogeneous graphs: a truncated SVD of the features, smoothed along the meta-paths. Nothing is learned.

The mean over meta-paths of the symmetrically normalised boolean graphs, ``num_hops`` times; rows of unit length. A target type without
features takes the SVD of its incidences with the types that its meta-paths begin with instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphcl.data.nodes import NodeData
from graphcl.ops import Mean, Sparse, truncated_svd, unit_rows
from graphcl.perturb.metapath import convolution
from graphcl.recipes.metapaths import sum_to_one

KIND = "hetero"


@dataclass(frozen=True)
class Config:
    dim: int = 64
    num_hops: int = 2
    probe_learning_rate: float = 0.05
    probe_weight_decay: float = 0.0


PRESETS: dict[str, dict] = {"hetero/aminer": {"num_hops": 1}}
SPACE: dict[str, tuple | list] = {"num_hops": (0, 4)}


def embed(config: Config, data: NodeData, *, rng: torch.Generator) -> Tensor:  # [N, d]
    graph = data.graph
    table = graph.x.get(graph.target)
    if table is None:
        beside = dict.fromkeys(graph.types(path)[1] for path in data.metapaths)
        sides = [graph.relation(graph.target, name) for name in beside]
        table = sparse.hstack(sides, format="csr").astype(np.float32)
    table = sum_to_one(table)
    matrix = table if isinstance(table, sparse.csr_matrix) else sparse.csr_matrix(table.numpy())
    rank = min(config.dim, min(matrix.shape) - 1)
    found = truncated_svd(Sparse.from_scipy(matrix), rank)
    h = found.u * found.s
    hop = Mean(*(convolution((graph.pathsim(path, None) > 0).astype(np.float32)) for path in data.metapaths))
    for _ in range(config.num_hops):
        h = hop @ h
    return unit_rows(h)
