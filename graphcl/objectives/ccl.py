"""Cosine contrastive loss: negatives matter only where they come nearer than a margin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from graphcl.contracts import Pair
from graphcl.objectives.curve_sum import curve_sum
from graphcl.objectives.rows import positive_keys, row_shares, row_weights, same_ids, weighted_mean
from graphcl.ops import unit_rows


@dataclass(frozen=True)
class CCL:
    """``mean_i (1 - s_i+) + weight * mean_j max(0, s_ij - margin)``, cosines, over negatives j of anchor i.

    ``among``: "batch" takes the other anchors' positives, and the same key is no negative of itself; "all" takes every other key, which is
    the expectation over keys sampled evenly. An anchor without negatives has the first term alone. ``pair.weights`` count
    an anchor that often; its key is a negative once.

    Raises:
        ValueError: a setting outside its range; sparse positives, at the call.

    Source: SimpleX, Mao et al., CIKM 2021; defaults of RecBole@7b02be5e, simplex.py (the paper tunes the weight up to hundreds).
    """

    margin: float = 0.5
    weight: float = 10.0
    among: Literal["batch", "all"] = "batch"
    tile_entries: int = 2**20  # cosines held at a time

    def __post_init__(self) -> None:
        if not -1 <= self.margin < 1:
            raise ValueError(f"margin is a cosine and must be from -1 to below 1, got {self.margin}")
        if not self.weight >= 0:
            raise ValueError(f"weight must be 0 or more, got {self.weight}")
        if self.among not in ("batch", "all"):
            raise ValueError(f"among must be one of batch, all, got {self.among!r}")

    @property
    def reads_all(self) -> bool:
        return self.among == "all"

    def __call__(self, pair: Pair) -> Tensor:
        query, keys, weights = unit_rows(pair.query), unit_rows(positive_keys(pair, "CCL")), row_weights(pair)
        positive = weighted_mean(1 - (query * keys).sum(1), weights)
        own = same_ids(pair.positives)
        if self.among == "all":
            keys, own = unit_rows(pair.key.all()), (torch.arange(len(query), device=query.device), pair.positives)
        counts = len(keys) - torch.bincount(own[0], minlength=len(query))
        shares = row_shares(pair) / counts.clamp_min(1)
        return positive + self.weight * curve_sum(query, keys, shares, self._hinge, banned=own, tile_entries=self.tile_entries)

    def _hinge(self, cosines: Tensor) -> tuple[Tensor, Tensor]:
        return F.relu(cosines - self.margin), (cosines > self.margin).to(cosines.dtype)
