"""The Jensen-Shannon estimate of mutual information: each pair is told apart as true or false by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from graphcl.contracts import Pair
from graphcl.objectives.curve_sum import curve_sum
from graphcl.objectives.rows import positive_keys, row_weights, same_ids, weighted_mean


@dataclass(frozen=True)
class JSD:
    """``mean_neg softplus(s_ij) + mean_i softplus(-s_i+) - 2 log 2``, dot products, against the other anchors' positives.

    The first mean is over all pairs in the batch of an anchor and another's positive; the same key twice is no negative of itself.
    Without any such pair the loss is the second mean less log 2. ``pair.weights`` count an anchor, with its pairs, that often.

    Raises:
        ValueError: sparse positives, at the call.

    Source: Hjelm et al., ICLR 2019; DGI, InfoGraph; PyGCL@0e1bacb, GCL/losses/jsd.py.
    """

    tile_entries: int = 2**20  # scores held at a time

    def __call__(self, pair: Pair) -> Tensor:
        query, keys, weights = pair.query, positive_keys(pair, "JSD"), row_weights(pair)
        loss = weighted_mean(F.softplus(-(query * keys).sum(1)), weights) - math.log(2)
        own = same_ids(pair.positives)
        count = (weights.double() * (len(keys) - torch.bincount(own[0], minlength=len(query)))).sum()
        if count == 0:
            return loss
        shares = (weights / count).to(weights.dtype)
        return loss + curve_sum(query, keys, shares, _false, banned=own, tile_entries=self.tile_entries) - math.log(2)


def _false(scores: Tensor) -> tuple[Tensor, Tensor]:
    return F.softplus(scores), scores.sigmoid()
