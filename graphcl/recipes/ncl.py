"""NCL: a node's second layer against its own layer 0 among all nodes, and its layer 0 against the centres of clusters.

Paper: Lin et al., "Improving Graph Collaborative Filtering with Neighborhood-enriched Contrastive Learning", WWW 2022.
Checked against: RUCAIBox/NCL@962797a (``ncl.py``, ``trainer.py``, ``properties/``).

Every term is a mean over the batch here. The release adds *sums* of both contrasts to a mean BPR, so its weights times its batch
size of 4096 are ours: ``weight`` = ssl_reg B, ``prototype_weight`` = proto_reg B. The defaults are its settings for MovieLens-1M. Its
others are for data sets of its own, whatever their names (temperature, weight, item_weight, prototype_weight, num_clusters): Yelp .05,
4.1e-3, 1.5, 4.1e-4, 2000; Amazon Books .05, 4.1e-3, .8, 4.1e-4, 2000, decay 1e-6; Gowalla .05, 4.1e-3, .5, 2e-4, 10, learning rate
2e-3; Alibaba .1, 4.1e-6, 1, 4.1e-7, 10000.

Departs: decay is half the squared norm of layer 0 (LightGCN's) instead of the norm itself, over B; k-means goes on from the last
epoch's centroids; a batch's repeated rows are told by counts; ``contrast_layer`` lies within ``num_layers``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from graphcl.encoders import LightGCN
from graphcl.encoders.readout import layer, mean
from graphcl.interactions import Interactions
from graphcl.objectives import AllKeys, InfoNCE
from graphcl.recipes.model import Contrast, Model
from graphcl.recipes.ranking import Ranking
from graphcl.recipes.settings import Training, sizes
from graphcl.views import CrossLayer, Prototypes

KIND = "general"


@dataclass(frozen=True)
class Config(Training):
    num_layers: int = 3
    weight: float = 4.1e-4  # of the contrast between layers
    item_weight: float = 1.0  # alpha: of its items' part, in units of its users'
    contrast_layer: int = 2  # 2k: even, for a node's neighbours there are of its own kind
    temperature: float = 0.1  # tau, of both contrasts
    prototype_weight: float = 3.3e-4
    num_clusters: int = 1000  # K, of users and of items
    warm_up: int = 20  # epochs without prototypes
    cluster_every: int = 1  # epochs
    decay: float = 1e-4
    batch_size: int = 4096


PRESETS: dict[str, dict] = {}

SPACE = {
    "num_layers": [2, 3],
    "learning_rate": (1e-3, 1e-2, "log"),
    "weight": (1e-4, 1e-1, "log"),
    "item_weight": (0.5, 1.5),
    "temperature": (0.05, 0.5, "log"),
    "prototype_weight": (1e-4, 1e-1, "log"),
    "num_clusters": [10, 100, 1000, 2000],
    "decay": (1e-6, 1e-3, "log"),
}


def build(config: Config, data: Interactions, *, rng: torch.Generator) -> Model:
    if not 1 <= config.contrast_layer <= config.num_layers:
        raise ValueError(f"contrast_layer must lie between 1 and num_layers, {config.num_layers}, got {config.contrast_layer}")
    encoder = LightGCN(sizes(data), config.dim, config.num_layers, rng=rng)
    objective = InfoNCE(config.temperature, negatives=AllKeys())
    structure = Contrast(
        CrossLayer(layer(config.contrast_layer), layer(0)),
        objective,
        {"user": config.weight, "item": config.weight * config.item_weight},
        rows="positives-repeated",
        name="structure",
    )
    view = Prototypes(
        config.num_clusters, layer(0), sizes(data), config.dim, warm_up=config.warm_up, every=config.cluster_every
    )  # fmt: skip
    prototypes = Contrast(view, objective, config.prototype_weight, rows="positives-repeated", name="prototypes")
    return Model(encoder, mean(first=0), Ranking(config.decay, "input"), [structure, prototypes])
