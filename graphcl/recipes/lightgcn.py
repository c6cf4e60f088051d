"""LightGCN: propagation without weights, trained by BPR.

Paper: He et al., "LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation", SIGIR 2020.
Checked against: gusye1234/LightGCN-PyTorch@947ca2b, kuandeng/LightGCN@b067ec0.
Departs: every training pair is drawn once an epoch; the release draws users uniformly (``--set balance=users``). Scores are ranked
as they are; the release ranks their float32 sigmoid, which ties above 17.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from graphcl.encoders import LightGCN
from graphcl.encoders.readout import mean
from graphcl.interactions import Interactions
from graphcl.recipes.model import Model
from graphcl.recipes.ranking import Ranking
from graphcl.recipes.settings import Training, sizes

KIND = "general"


@dataclass(frozen=True)
class Config(Training):
    num_layers: int = 3
    decay: float = 1e-4  # on layer 0 of each triple
    init: float = 0.1  # standard deviation of the table's start
    epochs: int = 1000
    evaluate_every: int = 5


PRESETS: dict[str, dict] = {}
SPACE: dict[str, tuple | list] = {"learning_rate": (5e-4, 1e-2, "log"), "num_layers": (1, 4), "decay": (1e-6, 1e-2, "log")}


def build(config: Config, data: Interactions, *, rng: torch.Generator) -> Model:
    encoder = LightGCN(sizes(data), config.dim, config.num_layers, init=config.init, rng=rng)
    return Model(encoder, mean(first=0), Ranking(config.decay, "input"))
