"""SimCLR's InfoNCE between two views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from graphcl.contracts import Pair
from graphcl.objectives.rows import check_temperature, positive_keys, row_weights, weighted_mean
from graphcl.ops import unit_rows


@dataclass(frozen=True)
class NTXent:
    """Every row of both views is an anchor, its positive its partner, its negatives the other 2(n - 1) rows of both; a mean.

    ``similarity``: "dot", as the sequential methods have it, or "cosine". ``pair.weights`` count a row that often in the mean; as a
    negative it stands once. Rows with the same positive are negatives of each other, as in the releases, and the logits [2n, 2n] are held.

    Raises:
        ValueError: a temperature not above 0, or another similarity; sparse positives, at the call.

    Source: Chen et al., "A Simple Framework for Contrastive Learning", 2020; as in QinHsiu/MCLRec@bc8d622 and RuihongQiu/DuoRec@4ebc30d.
    """

    temperature: float = 1.0
    similarity: Literal["dot", "cosine"] = "dot"

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        if self.similarity not in ("dot", "cosine"):
            raise ValueError(f"similarity must be dot or cosine, got {self.similarity!r}")

    def __call__(self, pair: Pair) -> Tensor:  # scalar
        return self.between(pair.query, positive_keys(pair, "NTXent"), row_weights(pair))

    def between(self, first: Tensor, second: Tensor, weights: Tensor | None = None) -> Tensor:  # [n, d] twice, [n] -> scalar
        both = torch.cat([first, second])
        both = unit_rows(both) if self.similarity == "cosine" else both
        logits = (both @ both.T / self.temperature).fill_diagonal_(-torch.inf)
        losses = F.cross_entropy(logits, torch.arange(len(both), device=both.device).roll(len(first)), reduction="none")
        return losses.mean() if weights is None else weighted_mean(losses, weights.repeat(2))
