"""VICReg: positives near each other, columns that vary and do not go together."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from graphcl.contracts import Pair
from graphcl.objectives.rows import positive_keys, row_weights


@dataclass(frozen=True)
class VICReg:
    """``invariance * mse(Q, K) + sum over Q and K of variance * mean_i max(0, 1 - std_i) + covariance * sum_{i != j} C_ij^2 / d``.

    K are the positives, ``std_i = sqrt(var_i + eps)`` of a column, C the covariances of columns; both divide by n - 1. No negatives, no
    normalisation of rows: embeddings grow until columns have deviation 1. O(n d^2) time, O(d^2) memory. ``pair.weights`` count a
    row that often.

    Raises:
        ValueError: a setting outside its range; sparse positives or fewer than two rows, at the call.

    Source: Bardes et al., ICLR 2022; as in PyGCL@0e1bacb, GCL/losses/vicreg.py. (The authors' release halves the variance term.)
    """

    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0
    eps: float = 1e-4

    def __post_init__(self) -> None:
        for name in ("invariance", "variance", "covariance"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is a weight and must be 0 or more, got {getattr(self, name)}")
        if not self.eps > 0:
            raise ValueError(f"eps must be above 0, got {self.eps}")

    def __call__(self, pair: Pair) -> Tensor:
        keys, weights = positive_keys(pair, "VICReg"), row_weights(pair)
        total = weights.sum(dtype=torch.float64)
        if not total > 1:
            raise ValueError(f"VICReg needs at least two rows, got {total:g} (the sum of their weights)")
        shares = (weights / total).to(weights.dtype)
        loss = self.invariance * (shares @ (pair.query - keys).square().mean(1))
        for x in (pair.query, keys):
            centred = x - shares @ x
            covariances = centred.T @ (centred * (weights / (total - 1)).to(weights.dtype)[:, None])
            variances = covariances.diagonal()
            loss = loss + self.variance * F.relu(1 - (variances + self.eps).sqrt()).mean()
            loss = loss + self.covariance * (covariances.square().sum() - variances.square().sum()) / len(variances)
        return loss
