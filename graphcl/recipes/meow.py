"""MEOW: a coarse against a fine view of meta-paths, negatives weighed by clusters, and prototypes.

Paper: Yu and Li, "Heterogeneous Graph Contrastive Learning with Meta-path Contexts and Weighted Negative Samples", SDM 2023.
Checked against: jianxiangyu/MEOW@6a072d7.

``released=True`` takes the release's conventions: ties of PathSim by the order of ids, densities by similarity, and for an embedding
the fine view of the last training pass, with dropout and the parameters before the last step. Without it ties are random, densities
are distances, and the embedding is made in evaluation mode from the weights of the lowest loss.

Departs, in both: clusters by spherical k-means that goes on from the last epoch's centroids (the release: faiss, five starts, inner
products with centroids that are not of unit length, every epoch anew); the mean over the papers of APTPA's terms is over paths, unless
``distinct_contexts``; the weights of the lowest loss are those after that step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graphcl.cluster import Clusters, kmeans
from graphcl.contracts import Pair, Table, Targets, Terms
from graphcl.data.nodes import NodeData
from graphcl.encoders.hgcn import Norm
from graphcl.objectives.prototypes import ProtoNCE
from graphcl.objectives.weighted_infonce import WeightedInfoNCE
from graphcl.recipes.metapaths import CoarseFine, MetaPaths, metapaths, sources
from graphcl.recipes.settings import Pretraining
from graphcl.streams import borrowed
from graphcl.train import PlainStep

KIND = "hetero"


@dataclass(frozen=True)
class Config(Pretraining):
    dropout: float = 0.2
    temperature: float = 0.4  # tau
    neighbours: tuple = (100,)  # kept of each node by PathSim, for each meta-path or for all
    feature_mask: float = 0.2  # share of the target's stored features
    edge_mask: tuple = (0.3,)  # share of the edges of each meta-path
    clusters: tuple = (100, 300)
    prototype_weight: float = 1.0  # lambda
    norm: Norm = "matrix"
    distinct_contexts: bool = False
    masked_dropout: bool = True
    released: bool = False


PRESETS: dict[str, dict] = {
    "hetero/acm": {
        "learning_rate": 7e-4, "patience": 30, "temperature": 0.4, "feature_mask": 0.3, "edge_mask": (0.3, 0.2), "neighbours": (110, 700),
        "clusters": (100, 300), "probe_learning_rate": 0.03,
    },
    "hetero/dblp": {
        "learning_rate": 6e-4, "patience": 35, "temperature": 0.9, "feature_mask": 0.2, "edge_mask": (0.2, 0.5, 0.6),
        "neighbours": (25, 200, 40), "clusters": (200, 700), "masked_dropout": False, "probe_learning_rate": 0.01,
    },
    "hetero/aminer": {
        "learning_rate": 7e-4, "patience": 25, "temperature": 0.9, "feature_mask": 0.2, "edge_mask": (0.7, 0.4), "neighbours": (5, 21),
        "clusters": (500, 1200), "prototype_weight": 0.1, "probe_learning_rate": 0.1, "probe_weight_decay": 8e-4,
    },
    "hetero/imdb": {
        "learning_rate": 1e-4, "weight_decay": 1e-3, "patience": 15, "temperature": 0.9, "feature_mask": 0.3, "edge_mask": (0.1,),
        "neighbours": (70, 10, 70), "clusters": (500, 700), "probe_learning_rate": 0.01,
    },
}  # fmt: skip
SPACE: dict[str, tuple | list] = {
    "learning_rate": (1e-4, 2e-3, "log"),
    "dropout": (0.0, 0.5),
    "temperature": (0.1, 1.0),
    "feature_mask": (0.0, 0.5),
    "prototype_weight": (0.01, 2.0, "log"),
}


def inputs(config: Config, data: NodeData, *, rng: torch.Generator) -> MetaPaths:
    found = sources(data, config.neighbours, "released" if config.released else "random", rng)
    return metapaths(found, config.feature_mask, config.edge_mask, distinct=config.distinct_contexts, rng=rng)


def build(config: Config, data: NodeData, prepared: MetaPaths, *, rng: torch.Generator) -> MEOW:
    with borrowed(rng):
        views = CoarseFine(
            data, prepared, config.dim, config.dim, config.dropout, norm=config.norm, masked_dropout=config.masked_dropout
        )
    return MEOW(
        views,
        WeightedInfoNCE(config.temperature, "cluster"),
        ProtoNCE(config.temperature, density="released" if config.released else "distance"),
        [min(k, data.graph.num_targets) for k in config.clusters],
        config.prototype_weight,
        keeps=data.graph.num_targets if config.released else 0,
    )


def step(config: Config, model: nn.Module) -> PlainStep:
    return PlainStep(model, config.learning_rate, weight_decay=config.weight_decay)


class MEOW(nn.Module):
    """Coarse anchors against fine candidates, and against the prototypes of these."""

    def __init__(
        self,
        views: CoarseFine,
        contrast: WeightedInfoNCE,
        prototypes: ProtoNCE,
        clusters: Sequence[int],
        prototype_weight: float,
        *,
        keeps: int = 0,  # nodes whose last training embedding is kept; 0: none is
    ):
        super().__init__()
        self.views, self.contrast, self.prototypes = views, contrast, prototypes
        self.clusters, self.prototype_weight = tuple(clusters), prototype_weight
        dim, projected = views.projection.in_features, views.projection.out_features
        for number, k in enumerate(self.clusters):
            self.register_buffer(f"centroids_{number}", torch.zeros(k, projected))
        self.last = nn.Buffer(torch.zeros(keeps, dim))

    def losses(self, inputs: MetaPaths, batch: Targets, rng: torch.Generator) -> Terms:
        with borrowed(rng):
            coarse, fine, candidates = self.views(inputs)
        if len(self.last):
            self.last.copy_(fine.detach())
        clusterings = self._clustered(candidates.detach(), rng)
        rows = torch.arange(len(coarse), device=coarse.device)
        assignments = torch.stack([found.nearest for found in clusterings], 1)
        return {
            "contrast": self.contrast(Pair(coarse, Table(candidates), rows), assignments),
            "prototypes": self.prototype_weight * self.prototypes(coarse, candidates.detach(), clusterings),
        }

    def _clustered(self, points: Tensor, rng: torch.Generator) -> list[Clusters]:
        found = []
        for number, k in enumerate(self.clusters):
            kept = self.get_buffer(f"centroids_{number}")
            start = kept if bool(kept.any()) else None
            found.append(kmeans(points, k, start=start, metric="cosine", max_iterations=20, rng=rng))
            kept.copy_(found[-1].centroids)
        return found

    @torch.no_grad()
    def embed(self, inputs: MetaPaths) -> Tensor:  # [N, d]
        return self.last if len(self.last) else fine_view(self.views, inputs)


def fine_view(views: CoarseFine, inputs: MetaPaths) -> Tensor:
    """The fine embedding without dropout."""
    was = views.training
    views.eval()
    try:
        return views(inputs)[1]
    finally:
        views.train(was)
