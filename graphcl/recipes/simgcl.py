"""SimGCL: two noisy passes against each other, a clean one for ranking.

Paper: Yu et al., "Are Graph Augmentations Necessary? Simple Graph Contrastive Learning for Recommendation", SIGIR 2022.
Checked against: Coder-Yu/SELFRec@5b02294.
Departs: as ``xsimgcl``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from graphcl.encoders import LightGCN
from graphcl.encoders.readout import mean
from graphcl.interactions import Interactions
from graphcl.objectives import InfoNCE
from graphcl.perturb.noise import SignNoise
from graphcl.recipes.model import Contrast, Model
from graphcl.recipes.ranking import Ranking
from graphcl.recipes.settings import Training, sizes
from graphcl.views import TwoNoises

KIND = "general"


@dataclass(frozen=True)
class Config(Training):
    num_layers: int = 3
    eps: float = 0.1  # length of the noise, in embedding units
    weight: float = 0.5  # lambda
    temperature: float = 0.2  # tau
    decay: float = 1e-4


PRESETS: dict[str, dict] = {"general/amazon-book": {"weight": 2.0}}
SPACE: dict[str, tuple | list] = {
    "learning_rate": (5e-4, 1e-2, "log"),
    "num_layers": (1, 4),
    "eps": (0.01, 0.5, "log"),
    "weight": (5e-3, 2.0, "log"),
    "temperature": (0.05, 0.5, "log"),
    "decay": (1e-6, 1e-2, "log"),
}


def build(config: Config, data: Interactions, *, rng: torch.Generator) -> Model:
    encoder = LightGCN(sizes(data), config.dim, config.num_layers, rng=rng)
    final = mean(first=1)
    contrast = Contrast(TwoNoises(SignNoise(config.eps), final), InfoNCE(config.temperature), config.weight)
    return Model(encoder, final, Ranking(config.decay, "output"), [contrast])
