"""Your own last items: the distinct items of the history, the most recent first, then all others, by popularity or none before another.

The floor where people come back to what they had. With seen items masked it is ``popular_items``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from graphcl.recipes.popular_items import counted
from graphcl.sequence import Sequences

KIND = "sequential"


@dataclass(frozen=True)
class Config:
    others: Literal["popular", "none"] = "popular"  # "none": all others tie, and ties rank last


PRESETS: dict[str, dict] = {}
SPACE: dict[str, tuple | list] = {}


class OwnHistory:
    """An item of the history scores 1 + its last position, any other its share of the popularity, which is below 1."""

    def __init__(self, counts: Tensor) -> None:
        self.counts = counts  # [I] float32
        self.num_items = len(counts)

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:  # [B, T], [B] -> [B, I]
        share = self.counts / (1 + self.counts.max())
        scores = torch.cat([share, share.new_zeros(1)]).repeat(len(items), 1)  # what fills rows scores too, and is cut off
        positions = torch.arange(1, items.shape[1] + 1, dtype=scores.dtype, device=scores.device).expand(items.shape)
        return scores.scatter_reduce_(1, items, positions, "amax")[:, :-1]

    def state(self) -> dict[str, Tensor]:
        return {"counts": self.counts}


def build(config: Config, data: Sequences, *, rng: torch.Generator | None = None) -> OwnHistory:
    counts = counted(data)
    return OwnHistory(counts if config.others == "popular" else torch.zeros_like(counts))


def restore(config: Config, data: Sequences, state: dict[str, Tensor]) -> OwnHistory:
    return OwnHistory(state["counts"])
