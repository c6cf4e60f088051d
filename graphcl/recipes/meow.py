"""MEOW: a coarse against a fine view of meta-paths, negatives weighed by clusters, and prototypes.

Paper: Yu and Li, "Heterogeneous Graph Contrastive Learning with Meta-path Contexts and Weighted Negative Samples", SDM 2023.
Checked against: jianxiangyu/MEOW@6a072d7.

``released=True`` takes the release's conventions: ties of PathSim by numpy's sort (which differs by processor), densities by similarity,
and for an embedding the fine view of a training pass, with dropout and the parameters before its step: that of the lowest loss (the
release's is the last, ``patience`` epochs later; ``select="last"``). Without it ties are random, densities are distances, and the
embedding is made in evaluation mode from the weights of the lowest loss.

Departs, in both: clusters by spherical k-means that goes on from the last epoch's centroids (the release: faiss, five starts, inner
products with centroids that are not of unit length, every epoch anew); the mean over the papers of APTPA's terms is over paths, unless
``distinct_contexts``; the weights of the lowest loss are those after that step; biases of attention and projections begin at 0 (the
release: as ``nn.Linear``'s); a node and its masked twin share the dropout of their contexts (the release: on DBLP alone).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from graphcl.cluster import Clusters, kmeans
from graphcl.contracts import Pair, Table, Targets, Terms
from graphcl.data.nodes import NodeData
from graphcl.objectives.cluster_means import ClusterMeans
from graphcl.objectives.prototypes import ProtoNCE
from graphcl.objectives.weighted_infonce import WeightedInfoNCE
from graphcl.recipes.metapaths import CoarseFine, MetaPaths, MetaPathTraining
from graphcl.recipes.metapaths import batches as batches
from graphcl.recipes.metapaths import inputs as inputs
from graphcl.recipes.metapaths import step as step
from graphcl.recipes.settings import check_counts
from graphcl.streams import borrowed

KIND = "hetero"
WHOLE_MOVES, BATCH_MOVES = 20, 2  # of k-means in a step
ROWS_A_CLUSTER = 10  # of a batch, at least


@dataclass(frozen=True)
class Config(MetaPathTraining):
    learning_rate: float = 7e-4
    temperature: float = 0.4  # tau
    clusters: tuple = (100, 300)
    prototype_weight: float = 1.0  # lambda
    negatives: Literal["exact", "clusters"] = "exact"  # or the means of clusters, in time linear in the nodes


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
        "clusters": (500, 1200), "prototype_weight": 0.1, "probe_learning_rate": 0.1, "probe_weight_decay": 8e-4, "stand_in": "svd",
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


def build(config: Config, data: NodeData, prepared: MetaPaths, *, rng: torch.Generator) -> MEOW:
    check_counts("clusters", config.clusters, 1)
    if config.batch_size == 1:
        raise ValueError("setting 'batch_size' must be 0, for all, or 2 or more: one row has nothing to be told from")
    with borrowed(rng):
        views = CoarseFine(data, prepared, config, config.dim)
    rows = config.batch_size // ROWS_A_CLUSTER if config.batch_size else data.graph.num_targets
    return MEOW(
        views,
        ClusterMeans(config.temperature) if config.negatives == "clusters" else WeightedInfoNCE(config.temperature, "cluster"),
        ProtoNCE(config.temperature, density="released" if config.released else "distance"),
        [min(k, max(2, rows)) for k in config.clusters],
        config.prototype_weight,
    )


class MEOW(nn.Module):
    """Coarse anchors against fine candidates, and against the prototypes of these."""

    def __init__(
        self,
        views: CoarseFine,
        contrast: WeightedInfoNCE | ClusterMeans,
        prototypes: ProtoNCE,
        clusters: Sequence[int],
        prototype_weight: float,
    ):
        super().__init__()
        self.views, self.contrast, self.prototypes = views, contrast, prototypes
        self.prototype_weight = prototype_weight
        self.centroids = nn.ParameterList(
            nn.Parameter(torch.zeros(k, views.projection.out_features), requires_grad=False) for k in clusters
        )

    def losses(self, inputs: MetaPaths, batch: Targets, rng: torch.Generator) -> Terms:
        anchors, candidates = self.views(inputs, batch, rng)
        # centroids hold from step to step, so in batches a few moves a step follow the whole
        clusterings = self.clustered(candidates.detach(), WHOLE_MOVES if batch.rows is None else BATCH_MOVES, rng)
        pair = Pair(anchors, Table(candidates), torch.arange(len(anchors), device=anchors.device))
        return {
            "contrast": self.contrast(pair, torch.stack([found.nearest for found in clusterings], 1)),
            "prototypes": self.prototype_weight * self.prototypes(pair, clusterings),
        }

    def clustered(self, points: Tensor, moves: int, rng: torch.Generator) -> list[Clusters]:
        found = []
        for kept in self.centroids:
            start = kept.detach() if bool(kept.any()) else None
            found.append(kmeans(points, len(kept), start=start, metric="cosine", max_iterations=moves, rng=rng))
            kept.data.copy_(found[-1].centroids)
        return found

    def embed(self, inputs: MetaPaths) -> Tensor:  # [N, d]
        return self.views.embed(inputs)
