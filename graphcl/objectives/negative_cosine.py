"""Positives alone: BYOL's and SimSiam's loss."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from graphcl.contracts import Pair
from graphcl.objectives.rows import positive_keys, row_weights, weighted_mean
from graphcl.ops import unit_rows


@dataclass(frozen=True)
class NegativeCosine:
    """``mean_i -cos(q_i, k_i+)``, from -1 (aligned) to 1.

    ``stop_gradient``: keys are constants, without which both sides collapse to one point; the query is then to be a predictor's
    output. A row of length zero has cosine 0. ``pair.weights`` count a row that often.

    Raises:
        ValueError: sparse positives, at the call.

    Source: Grill et al., NeurIPS 2020 (BYOL, which writes 2 - 2 cos); Chen and He, CVPR 2021 (SimSiam); for graphs BGRL.
    Departs: PyGCL@0e1bacb, BootstrapLatent, returns the cosine itself, and its examples minimise it.
    """

    stop_gradient: bool = True

    def __call__(self, pair: Pair) -> Tensor:
        keys = positive_keys(pair, "NegativeCosine")
        keys = keys.detach() if self.stop_gradient else keys
        return weighted_mean(-(unit_rows(pair.query) * unit_rows(keys)).sum(1), row_weights(pair))
