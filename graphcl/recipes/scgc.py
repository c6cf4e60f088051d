"""SCGC, the exact counterpart of PamC: neighbours as positives, all nodes as negatives by tiles, clusters that train themselves.

Paper: Kulatilleke, Portmann and Chandra, "SCGC: Self-supervised contrastive graph clustering", 2022 (arXiv 2204.12656).
Checked against: gayanku/PAMC@f33a8b3 (``SCGC_TRIM``, whose exact loss calls what that repository lacks) and gayanku/SCGC@886ec27.

As ``pamc``, but for the negative term and the settings of the release for it. ``temperature`` is the inverse of its "tau".

Departs: all pairs by tiles instead of a dense matrix; the decoder is dropped, as PamC's comparison does.
"""

from __future__ import annotations

import torch

from graphcl.data.attributed import AttributedData
from graphcl.recipes.clustered import Clusterer, Neighbourhoods
from graphcl.recipes.clustered import batches as batches
from graphcl.recipes.clustered import build as built
from graphcl.recipes.clustered import inputs as inputs
from graphcl.recipes.clustered import step as step
from graphcl.recipes.pamc import SPACE as SPACE
from graphcl.recipes.pamc import Config as Config

KIND = "attributed"


PRESETS: dict[str, dict] = {
    "attributed/acm": {"weight": 1.0, "self_weight": 0.1, "hops": 1, "temperature": 4.0},
    "attributed/dblp": {"weight": 1.0, "self_weight": 0.1, "hops": 1, "temperature": 4.0},
    "attributed/citeseer": {"weight": 1.0, "self_weight": 0.1, "hops": 1, "temperature": 4.0, "learning_rate": 1e-4},
}


def build(config: Config, data: AttributedData, prepared: Neighbourhoods, *, rng: torch.Generator) -> Clusterer:
    return built(config, data, prepared, "exact", rng=rng)
