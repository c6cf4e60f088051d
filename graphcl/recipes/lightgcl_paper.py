"""LightGCL as in its paper: residual layers, each contrasted with the same layer seen through a truncated SVD.

Paper: Cai et al., "LightGCL: Simple Yet Effective Graph Contrastive Learning for Recommendation", ICLR 2023.
Checked against: HKUDS/LightGCL@5590453, ``old_setting/`` (``main.py``, ``model.py``, ``parser.py``); ``lightgcl`` is what the
same repository released later, which scores higher.

Where paper and old code differ, the default is the paper's and a setting gives the code's: ``svd="raw"`` decomposes the 0/1
matrix, ``similarity="dot"`` leaves the keys as W made them, which lets W scale the logits. W itself, the dropped anchors and the
hinge over 40 positives and negatives a user are the code's alone.

Settings of the README's older version (akaxlh/LightGCL) for its own data sets, which are no others' of these names: Yelp as below;
Gowalla decay 1e-5, temperature .3; ML-10M temperature 10; Amazon weight 1e-5, temperature .1; Tmall weight 1e-6, temperature .3,
dropout 0.

Departs: the SVD is exact (PROPACK) instead of a randomised sketch without oversampling. Adam's weight decay is a term of the loss,
``decay / 2`` times the squared norm of all parameters, which has the same gradient. Log-sum-exp replaces two guards of 1e-8. Users
without training items are not drawn; the old code lets them into the contrast. The learning rate falls from the second
epoch on and ends at 5e-4; the old code's falls from the first and ends at 5.03e-4. Training items are left out of
rankings; the old code gives them score 0, so they outrank every item with a negative score.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch

from graphcl.contracts import Batch
from graphcl.data.user_batches import UserBatches
from graphcl.encoders import ResidualGCN
from graphcl.encoders.readout import increment, total
from graphcl.graph import bipartite
from graphcl.interactions import Interactions
from graphcl.objectives import InfoNCE
from graphcl.objectives.bpr import hinge
from graphcl.recipes.lightgcl import edge_dropout, svd_view
from graphcl.recipes.model import Contrast, Model
from graphcl.recipes.ranking import Ranking
from graphcl.recipes.settings import Training, sizes
from graphcl.views import RelayedLayers

KIND = "general"


@dataclass(frozen=True)
class Config(Training):
    dim: int = 32
    num_layers: int = 2
    slope: float = 0.5  # of the leaky rectifier
    dropout: float = 0.25  # of the graph's entries
    rank: int = 5  # q
    svd: Literal["normalised", "raw"] = "normalised"  # the matrix that is decomposed
    weight: float = 1e-7  # lambda1
    temperature: float = 0.5  # tau
    similarity: Literal["cosine", "dot"] = "cosine"  # "dot": keys are not brought to unit length again after W
    anchor_dropout: float = 0.5  # share of the anchors that leave the contrast
    decay: float = 1e-4  # lambda2
    batch_size: int = 256  # users a step
    balance: Literal["users"] = "users"  # nothing else is possible here
    epoch_users: int = 30_000  # at most
    samples: int = 40  # positives, and as many negatives, of a user; at most
    rate_decay: float = 0.98
    lowest_rate: float = 5e-4


PRESETS: dict[str, dict] = {}
SPACE: dict[str, tuple | list] = {
    "learning_rate": (5e-4, 1e-2, "log"),
    "num_layers": (1, 3),
    "weight": (1e-8, 1e-4, "log"),
    "temperature": (0.1, 10.0, "log"),
    "decay": (1e-6, 1e-3, "log"),
    "dropout": (0.0, 0.5),
}


def build(config: Config, data: Interactions, *, rng: torch.Generator) -> Model:
    encoder = ResidualGCN(sizes(data), config.dim, config.num_layers, slope=config.slope, rng=rng)
    graph = bipartite(data)
    view = RelayedLayers(
        svd_view(graph.adj if config.svd == "raw" else graph.ops[0], graph.kinds, config.rank),
        tuple(increment(number) for number in range(1, config.num_layers + 1)),
        config.dim,
        slope=config.slope,
        drop=config.anchor_dropout,
        rng=rng,
    )
    contrast = Contrast(view, InfoNCE(config.temperature, config.similarity, reduction="sum"), config.weight, rows="all")
    # The last, smaller batch is divided by a whole batch's size too.
    task = Ranking(config.decay / 2, "parameters", partial(hinge, count=config.batch_size), "hinge")
    return Model(encoder, total(first=0), task, [contrast], change=edge_dropout(config.dropout, config.num_layers))


def batches(config: Config, data: Interactions) -> Callable[[torch.Generator], Iterator[Batch]]:
    return UserBatches(data, config.batch_size, epoch_users=config.epoch_users, samples=config.samples)
