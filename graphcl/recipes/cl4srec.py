"""CL4SRec: each history cropped, masked or reordered twice, in two different ways.

Paper: Xie et al., "Contrastive Learning for Sequential Recommendation", ICDE 2022.
Checked against: RuihongQiu/DuoRec@4ebc30d (cl4srec.py: shares, weight, the full softmax, rows that are prefixes).
Departs: masking and reordering never write into the training data, as they do there; rows of a batch, negatives of
each other, are of about one length (``length_pool=1``: drawn alike, as released); see ``sasrec`` for the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch

from graphcl.perturb.sequences import crop, mask, reorder
from graphcl.recipes.sequence_model import SPACE as SHARED
from graphcl.recipes.sequence_model import NextItem, RowContrast, SequenceModel, SequenceSettings, encoder
from graphcl.recipes.sequence_model import batches as batches
from graphcl.sequence import Sequences
from graphcl.views import TwoSequences
from graphcl.views.two_sequences import Histories

KIND = "sequential"


@dataclass(frozen=True)
class Config(SequenceSettings):
    rows: Literal["user", "prefix"] = "prefix"
    batch_size: int = 256
    weight: float = 0.1  # lambda
    temperature: float = 1.0
    crop: float = 0.6  # share of the items that stays
    mask: float = 0.3
    reorder: float = 0.6


PRESETS: dict[str, dict] = {}
SPACE: dict[str, tuple | list] = {
    **SHARED, "weight": (1e-3, 1.0, "log"), "temperature": (0.1, 2.0, "log"),
    "crop": (0.3, 0.9), "mask": (0.1, 0.7), "reorder": (0.2, 0.9),
}  # fmt: skip


def operators(kept: float, masked: float, reordered: float, no_item: int) -> list[Callable[..., Histories]]:
    """The three, for these shares."""
    for name, share in (("crop", kept), ("mask", masked), ("reorder", reordered)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is a share of the items and must lie in [0, 1], got {share}")
    return [
        partial(crop, keep=kept, no_item=no_item),
        partial(mask, share=masked, no_item=no_item),
        partial(reorder, share=reordered),
    ]


def build(config: Config, data: Sequences, *, rng: torch.Generator) -> SequenceModel:
    views = TwoSequences(operators(config.crop, config.mask, config.reorder, data.num_items), data.num_items)
    contrast = RowContrast(views, config.weight, config.temperature)
    return SequenceModel(encoder(config, data, rng), NextItem(config, data), {"contrast": contrast})
