"""SASRec, trained with the full softmax, a sampled one, gBCE or BCE.

Paper: Kang and McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018.
Checked against: RUCAIBox/RecBole@7b02be5 (the encoder and the full softmax), asash/gSASRec-pytorch@7e35028 (gBCE).
Departs: a row a user with a target at each position (``rows="prefix"`` is RecBole's); the softmax is over items alone, without a class
for padding; negatives of ``sampled`` and ``gbce`` are shared by a step's targets; those of ``bce`` leave out the user's training items
only, not the held-out ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from graphcl.recipes.sequence_model import SPACE as SPACE
from graphcl.recipes.sequence_model import NextItem, SequenceModel, SequenceSettings, encoder
from graphcl.recipes.sequence_model import batches as batches
from graphcl.sequence import Sequences

KIND = "sequential"


@dataclass(frozen=True)
class Config(SequenceSettings):
    patience: int = 20  # an epoch of rows a user has few steps


PRESETS: dict[str, dict] = {}


def build(config: Config, data: Sequences, *, rng: torch.Generator) -> SequenceModel:
    return SequenceModel(encoder(config, data, rng), NextItem(config, data))
