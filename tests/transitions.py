"""A tiny recipe for sequences, to test what stands around recipes: the last item's row of a table scores the next one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graphcl.contracts import Terms
from graphcl.recipes.settings import SequenceTraining
from graphcl.sequence import SequenceBatch, Sequences

KIND = "sequential"


@dataclass(frozen=True)
class Config(SequenceTraining):
    noise: float = 0.1  # of the scores in training, so that draws matter


PRESETS: dict[str, dict] = {}


class Transitions(nn.Module):
    def __init__(self, config: Config, num_items: int, rng: torch.Generator):
        super().__init__()
        self.num_items, self.noise = num_items, config.noise
        self.table = nn.Parameter(0.1 * torch.randn(num_items, num_items, generator=rng))

    def losses(self, inputs: Sequences, batch: SequenceBatch, rng: torch.Generator) -> Terms:
        assert self.training
        scores = self.table[batch.items.flatten()[batch.places]]
        scores = scores + self.noise * torch.randn(scores.shape, generator=rng)
        return {"next": nn.functional.cross_entropy(scores, batch.targets)}

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        assert not self.training
        return self.table[items[torch.arange(len(items)), lengths - 1]]

    def item_vectors(self) -> Tensor:
        return self.table


def build(config: Config, data: Sequences, *, rng: torch.Generator) -> Transitions:
    return Transitions(config, data.num_items, rng)
