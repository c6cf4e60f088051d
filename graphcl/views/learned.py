"""MCLRec's learned augmentation of states."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphcl.ops import unit_rows
from graphcl.streams import borrowed


class LearnedAugment(nn.Module):
    """Two augmenters that share nothing, d -> d/2 -> d/4 -> d with GELU between, one for each view; what they make has length 1.

    Raises:
        ValueError: a width below 4.

    Source: Qin et al., "Meta-optimized Contrastive Learning for Sequential Recommendation", SIGIR 2023; QinHsiu/MCLRec@bc8d622.
    """

    def __init__(self, dim: int, *, rng: torch.Generator):
        super().__init__()
        if dim < 4:
            raise ValueError(f"dim must be 4 or more, got {dim}")
        with borrowed(rng):
            self.augmenters = nn.ModuleList(
                nn.Sequential(
                    nn.Linear(dim, dim // 2), nn.GELU(), nn.Linear(dim // 2, dim // 4), nn.GELU(), nn.Linear(dim // 4, dim)
                )
                for _ in range(2)
            )

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:  # [B, d] twice -> [B, d] twice
        a, b = self.augmenters
        return unit_rows(a(first)), unit_rows(b(second))
