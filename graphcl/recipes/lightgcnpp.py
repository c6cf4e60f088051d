"""LightGCN++: unequal degree exponents, unit rows before each hop, and a weight for layer 0.

Paper: Lee et al., "Revisiting LightGCN: Unexpected Inflexibility, Inconsistency, and A Remedy Towards Improved Recommendation",
RecSys 2024.
Checked against: geon0325/LightGCNpp@a394f79.
Departs: as ``lightgcn``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from graphcl.encoders import LightGCN
from graphcl.encoders.readout import blend
from graphcl.graph import Graph, bipartite
from graphcl.interactions import Interactions
from graphcl.recipes import lightgcn
from graphcl.recipes.model import Model
from graphcl.recipes.ranking import Ranking
from graphcl.recipes.settings import sizes

KIND = "general"


@dataclass(frozen=True)
class Config(lightgcn.Config):
    num_layers: int = 2
    alpha: float = 0.6  # exponent of the receiving node's degree
    beta: float = -0.1  # exponent of the sending node's degree
    gamma: float = 0.2  # weight of layer 0 in the readout


PRESETS: dict[str, dict] = {
    "general/yelp2018": {"gamma": 0.1},
    "general/ml-1m": {"alpha": 0.5, "beta": 0.0, "gamma": 0.0},
}
SPACE: dict[str, tuple | list] = {
    "learning_rate": (5e-4, 1e-2, "log"),
    "num_layers": (1, 4),
    "alpha": (0.3, 0.7),
    "beta": (-0.3, 0.3),
    "gamma": (0.0, 0.5),
    "decay": (1e-6, 1e-2, "log"),
}


def inputs(config: Config, data: Interactions) -> Graph:
    return bipartite(data, exponents=(config.alpha, config.beta))


def build(config: Config, data: Interactions, *, rng: torch.Generator) -> Model:
    encoder = LightGCN(sizes(data), config.dim, config.num_layers, init=config.init, unit=True, rng=rng)
    return Model(encoder, blend(config.gamma), Ranking(config.decay, "input"))
