"""PamC's negative term: clusters against clusters."""

from __future__ import annotations

import torch
from torch import Tensor

from graphcl.objectives.partition import Partition
from graphcl.ops import unit_rows


def cluster_pairs(z: Tensor, partition: Partition, temperature: float) -> Tensor:  # [N, d] -> scalar
    """``mean_c log(1 + sum_(c' not c) exp(cos(S_c, S_c') / t))`` over the sums S_c of the clusters that have members.

    Sizes have no say, a cluster's own entry is ``exp(0)``, and no two rows of one cluster are pushed apart. It is no bound of a sum
    over rows, and no use as the only negative term of a recommender. Gradients reach every row through its cluster's sum.

    Source: gayanku/PAMC@f33a8b3, which divides by the length of an empty cluster's sum.
    Departs: clusters without members are left out.
    """
    sums = unit_rows(partition.pooled(z)[partition.sizes > 0])
    logits = sums @ sums.T / temperature
    return logits.masked_fill(torch.eye(len(sums), dtype=torch.bool, device=z.device), 0.0).logsumexp(1).mean()
