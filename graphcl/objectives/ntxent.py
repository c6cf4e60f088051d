"""SimCLR's InfoNCE between two views."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from graphcl.contracts import Pair
from graphcl.ops import unit_rows


@dataclass(frozen=True)
class NTXent:
    """Every row of both views is an anchor, its positive its partner, its negatives the other 2(n - 1) rows of both; a mean.

    ``similarity``: "dot", as the sequential methods have it, or "cosine".

    Raises:
        ValueError: a temperature not above 0, or another similarity.

    Source: Chen et al., "A Simple Framework for Contrastive Learning", 2020; as in QinHsiu/MCLRec@bc8d622 and RuihongQiu/DuoRec@4ebc30d.
    """

    temperature: float = 1.0
    similarity: Literal["dot", "cosine"] = "dot"

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        if self.similarity not in ("dot", "cosine"):
            raise ValueError(f"similarity must be dot or cosine, got {self.similarity!r}")

    def __call__(self, pair: Pair) -> Tensor:  # scalar
        return self.between(pair.query, pair.key.at(pair.positives))

    def between(self, first: Tensor, second: Tensor) -> Tensor:  # [n, d] twice -> scalar
        both = torch.cat([first, second])
        both = unit_rows(both) if self.similarity == "cosine" else both
        logits = (both @ both.T / self.temperature).fill_diagonal_(-torch.inf)
        return F.cross_entropy(logits, torch.arange(len(both), device=both.device).roll(len(first)))
