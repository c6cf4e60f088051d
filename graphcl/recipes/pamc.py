"""PamC: neighbours as positives, clusters against clusters as negatives, clusters that train themselves.

Paper: Kulatilleke, Portmann and Chandra, "Efficient block contrastive learning via parameter-free meta-node approximation", 2022
(arXiv 2209.14067). Only its abstract and the code were at hand.
Checked against: gayanku/PAMC@f33a8b3 (``SCGC_TRIMPOSCCSP``), which ships no pretrained encoders; they are trained here as SDCN's are.

The release multiplies similarities by a "tau", so ``temperature`` is its inverse. It reports of every metric the maximum over epochs
against the labels: ``--protocol as-published`` does; else the last epoch counts.

Departs: an empty cluster is left out, where the release has NaN; logarithms of sums instead of ``log(sum + 1e-10)``; at most ``limit``
positives of a node.
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
    return built(config, data, prepared, "pairs", rng=rng)
