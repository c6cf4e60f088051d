"""AdaMEOW: MEOW's views, negatives weighed by a small network that is learned with the rest.

Paper: Yu and Li, "Heterogeneous Graph Contrastive Learning with Meta-path Contexts and Adaptively Weighted Negative Samples", TKDE 2024.
Checked against: jianxiangyu/MEOW@6a072d7 (AdaMEOW).

Anchors are fine projections, candidates coarse ones. ``mode="joint"`` minimises over the weights too, as the release does: their common
scale then falls without bound. "normalised" divides each anchor's weights by their mean.

``released=True``: as ``meow``. The release stops at an epoch that a person chose by test scores; here ``epochs`` are fixed by the preset
and the epoch is chosen on validation (``select``), or is the last.

Departs: as ``meow`` in biases and in the dropout of a node's masked twin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from graphcl.contracts import Pair, Table, Targets, Terms
from graphcl.data.nodes import NodeData
from graphcl.objectives.weighted_infonce import WeightedInfoNCE
from graphcl.recipes.metapaths import CoarseFine, MetaPaths, MetaPathTraining
from graphcl.recipes.metapaths import batches as batches
from graphcl.recipes.metapaths import inputs as inputs
from graphcl.recipes.metapaths import step as step
from graphcl.streams import borrowed

KIND = "hetero"


@dataclass(frozen=True)
class Config(MetaPathTraining):
    learning_rate: float = 1e-4
    epochs: int = 1200
    evaluate_every: int = 100
    select: Literal["loss", "ma_f1", "mi_f1", "last"] = "ma_f1"  # the loss has no floor in mode "joint"
    patience: int = 0
    edge_mask: tuple = (0.2,)
    temperature: float = 0.9
    projected: int = 64  # width of what is contrasted
    hidden: int = 16  # of the weighing network
    mode: Literal["joint", "normalised"] = "joint"


PRESETS: dict[str, dict] = {
    "hetero/acm": {
        "learning_rate": 5e-5, "weight_decay": 1e-5, "epochs": 1200, "dropout": 0.3, "temperature": 1.0, "feature_mask": 0.3,
        "edge_mask": (0.2,), "neighbours": (690, 690), "probe_learning_rate": 0.03,
    },
    "hetero/dblp": {
        "learning_rate": 1e-4, "weight_decay": 1e-3, "epochs": 1500, "dropout": 0.2, "feature_mask": 0.1, "edge_mask": (0.3,),
        "neighbours": (25, 200, 40), "masked_dropout": False, "probe_learning_rate": 0.01,
    },
    "hetero/aminer": {
        "learning_rate": 1e-4, "weight_decay": 1e-4, "epochs": 3000, "dropout": 0.0, "feature_mask": 0.0, "edge_mask": (0.0,),
        "neighbours": (8, 31), "projected": 16, "stand_in": "svd", "probe_learning_rate": 0.3, "probe_weight_decay": 1e-3,
    },
    "hetero/imdb": {
        "learning_rate": 5e-4, "weight_decay": 5e-4, "epochs": 1000, "dropout": 0.1, "feature_mask": 0.3, "edge_mask": (0.1,),
        "neighbours": (70, 10, 70), "probe_learning_rate": 0.01,
    },
}  # fmt: skip
SPACE: dict[str, tuple | list] = {
    "learning_rate": (2e-5, 1e-3, "log"),
    "dropout": (0.0, 0.5),
    "temperature": (0.2, 1.0),
    "feature_mask": (0.0, 0.5),
    "mode": ["joint", "normalised"],
}


def build(config: Config, data: NodeData, prepared: MetaPaths, *, rng: torch.Generator) -> AdaMEOW:
    with borrowed(rng):
        views = CoarseFine(data, prepared, config, config.projected)
    return AdaMEOW(
        views,
        WeightedInfoNCE(config.temperature, "learned", dim=config.projected, hidden=config.hidden, mode=config.mode, rng=rng),
    )


class AdaMEOW(nn.Module):
    """Fine anchors against coarse candidates."""

    def __init__(self, views: CoarseFine, contrast: WeightedInfoNCE):
        super().__init__()
        self.views, self.contrast = views, contrast

    def losses(self, inputs: MetaPaths, batch: Targets, rng: torch.Generator) -> Terms:
        candidates, anchors = self.views(inputs, batch, rng)
        rows = torch.arange(len(anchors), device=anchors.device)
        return {"contrast": self.contrast(Pair(anchors, Table(candidates), rows))}

    def embed(self, inputs: MetaPaths) -> Tensor:  # [N, d]
        return self.views.embed(inputs)
