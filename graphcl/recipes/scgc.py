"""SCGC, the exact counterpart of PamC: neighbours as positives, all nodes as negatives by tiles, clusters that train themselves.

Paper: Kulatilleke, Portmann and Chandra, "SCGC: Self-supervised contrastive graph clustering", 2022 (arXiv 2204.12656).
Checked against: gayanku/PAMC@f33a8b3 (``SCGC_TRIM``, whose exact loss calls what that repository lacks) and gayanku/SCGC@886ec27.

As ``pamc``, but for the negative term and the settings of the release for it. ``temperature`` is the inverse of its "tau".

Departs: all pairs by tiles instead of a dense matrix; the decoder is dropped, as PamC's comparison does.
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


PRESETS: dict[str, dict] = {
    "attributed/acm": {"weight": 1.0, "self_weight": 0.1, "hops": 1, "temperature": 4.0},
    "attributed/dblp": {"weight": 1.0, "self_weight": 0.1, "hops": 1, "temperature": 4.0},
    "attributed/citeseer": {"weight": 1.0, "self_weight": 0.1, "hops": 1, "temperature": 4.0, "learning_rate": 1e-4},
}
SPACE: dict[str, tuple | list] = {
    "learning_rate": (1e-4, 3e-3, "log"),
    "weight": (0.1, 5.0, "log"),
    "self_weight": (0.1, 15.0, "log"),
    "hops": (1, 4),
    "temperature": (0.5, 4.0, "log"),
}


def build(config: Config, data: AttributedData, prepared: Neighbourhoods, *, rng: torch.Generator) -> Clusterer:
    return built(config, data, prepared, "exact", rng=rng)
