"""XSimGCL: one noisy pass serves recommendation and contrast.

Paper: Yu et al., "XSimGCL: Towards Extremely Simple Graph Contrastive Learning for Recommendation", TKDE 2023.
Checked against: Coder-Yu/SELFRec@5b02294 (XSimGCL.py, its conf and README).
Departs: BPR is softplus without the release's 1e-5 inside the logarithm; noise comes from a counter, not from the device's
generator; negatives are rejected by a vectorised sampler.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from graphcl.encoders import LightGCN
from graphcl.encoders.readout import layer, mean
from graphcl.interactions import Interactions
from graphcl.objectives import InfoNCE
from graphcl.perturb.noise import SignNoise
from graphcl.recipes.model import Contrast, Model
from graphcl.recipes.ranking import Ranking
from graphcl.recipes.settings import Training, sizes
from graphcl.views import CrossLayer

KIND = "general"


@dataclass(frozen=True)
class Config(Training):
    num_layers: int = 3
    eps: float = 0.2  # length of the noise, in embedding units
    weight: float = 0.2  # lambda
    temperature: float = 0.15  # tau
    contrast_layer: int = 1  # l*
    decay: float = 1e-4
    patience: int = 10
    epochs: int = 40


PRESETS: dict[str, dict] = {
    # Found on validation: layers 1 to 3, eps .1 to .4, weight .005 to .1, temperature .07 to .3, dim 64 and 128.
    "general/ml-100k": {
        "num_layers": 2,
        "weight": 0.02,
        "temperature": 0.1,
        "learning_rate": 5e-3,
        "batch_size": 1024,
        "epochs": 60,
        "patience": 6,
    },
}
SPACE: dict[str, tuple | list] = {
    "learning_rate": (5e-4, 1e-2, "log"),
    "num_layers": (1, 4),  # the contrast's layer stays at 1, which all of these have
    "eps": (0.01, 0.5, "log"),
    "weight": (5e-3, 1.0, "log"),
    "temperature": (0.05, 0.5, "log"),
    "decay": (1e-6, 1e-2, "log"),
}


def build(config: Config, data: Interactions, *, rng: torch.Generator) -> Model:
    if not 0 <= config.contrast_layer <= config.num_layers:
        raise ValueError(f"contrast_layer must lie between 0 and num_layers, {config.num_layers}, got {config.contrast_layer}")
    encoder = LightGCN(sizes(data), config.dim, config.num_layers, rng=rng)
    final = mean(first=1)
    contrast = Contrast(
        CrossLayer(final, layer(config.contrast_layer)), InfoNCE(config.temperature), config.weight, rows="positives"
    )
    return Model(encoder, final, Ranking(config.decay, "output"), [contrast], perturb=SignNoise(config.eps))
