"""Most popular, for sequences: every item scores how often it stands in the training part, whatever the history.

What ``popular`` is for pairs; here repeats count.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from graphcl.sequence import Sequences

KIND = "sequential"


@dataclass(frozen=True)
class Config:
    """Nothing to set."""


PRESETS: dict[str, dict] = {}
SPACE: dict[str, tuple | list] = {}


class PopularItems:
    """Scores by popularity; a history plays no part."""

    def __init__(self, counts: Tensor) -> None:
        self.counts = counts  # [I] float32
        self.num_items = len(counts)

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:  # [B, T], [B] -> [B, I]
        return self.counts.expand(len(items), -1)

    def state(self) -> dict[str, Tensor]:
        return {"counts": self.counts}


def counted(data: Sequences) -> Tensor:  # [I] float32
    return data.items.bincount(minlength=data.num_items).float()


def build(config: Config, data: Sequences, *, rng: torch.Generator | None = None) -> PopularItems:
    return PopularItems(counted(data))


def restore(config: Config, data: Sequences, state: dict[str, Tensor]) -> PopularItems:
    return PopularItems(state["counts"])
