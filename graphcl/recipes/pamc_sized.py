"""PamC with sizes: neighbours as positives, every other cluster by its size and mean as negatives, clusters that train themselves.

Ours. As ``pamc``, but the denominator is each node's own: the sum over the clusters it is not in, ``n_c exp(<z_i, mu_c> / t)`` with means
of unit rows that are not brought to unit length again, plus its own ``exp(0)``. That is SCGC's denominator without the node's cluster, by
first order, in time linear in the nodes; ``pamc`` loses the sizes and the node.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from graphcl.data.attributed import AttributedData
from graphcl.recipes.clustered import Clusterer, Neighbourhoods, NodeClustering
from graphcl.recipes.clustered import batches as batches
from graphcl.recipes.clustered import build as built
from graphcl.recipes.clustered import inputs as inputs
from graphcl.recipes.clustered import step as step

KIND = "attributed"


@dataclass(frozen=True)
class Config(NodeClustering):
    learning_rate: float = 1e-3


PRESETS: dict[str, dict] = {  # PamC's
    "attributed/acm": {"weight": 0.5, "self_weight": 0.5, "hops": 1, "temperature": 2.0},
    "attributed/dblp": {"weight": 2.0, "self_weight": 2.0, "hops": 1, "temperature": 1.0},
    "attributed/citeseer": {"weight": 2.0, "self_weight": 2.5, "hops": 3, "temperature": 2.0},
}
SPACE: dict[str, tuple | list] = {
    "learning_rate": (1e-4, 3e-3, "log"),
    "weight": (0.1, 5.0, "log"),
    "self_weight": (0.1, 15.0, "log"),
    "hops": (1, 4),
    "temperature": (0.5, 4.0, "log"),
}


def build(config: Config, data: AttributedData, prepared: Neighbourhoods, *, rng: torch.Generator) -> Clusterer:
    return built(config, data, prepared, "clusters", rng=rng)
