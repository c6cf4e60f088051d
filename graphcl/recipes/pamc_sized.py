"""PamC with sizes: neighbours as positives, every other cluster by its size and mean as negatives, clusters that train themselves.

Ours. As ``pamc``, but the denominator is each node's own: the sum over the clusters it is not in, ``n_c exp(<z_i, mu_c> / t)`` with means
of unit rows that are not brought to unit length again, plus its own ``exp(0)``. That is SCGC's denominator without the node's cluster, by
first order, in time linear in the nodes; ``pamc`` loses the sizes and the node.
"""

from __future__ import annotations

import torch

from graphcl.data.attributed import AttributedData
from graphcl.recipes.clustered import Clusterer, Neighbourhoods
from graphcl.recipes.clustered import batches as batches
from graphcl.recipes.clustered import build as built
from graphcl.recipes.clustered import inputs as inputs
from graphcl.recipes.clustered import step as step
from graphcl.recipes.pamc import PRESETS as PRESETS
from graphcl.recipes.pamc import SPACE as SPACE
from graphcl.recipes.pamc import Config as Config

KIND = "attributed"


def build(config: Config, data: AttributedData, prepared: Neighbourhoods, *, rng: torch.Generator) -> Clusterer:
    return built(config, data, prepared, "clusters", rng=rng)
