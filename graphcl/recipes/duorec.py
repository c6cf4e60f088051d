"""DuoRec: a history encoded once more, against another one that led to the same item.

Paper: Qiu et al., "Contrastive Learning for Representation Degeneration Problem in Sequential Recommendation", WSDM 2022.
Checked against: RuihongQiu/DuoRec@4ebc30d (``us_x``, its default).
Departs: rows of a batch, negatives of each other, are of about one length (``length_pool=1``: drawn alike, as released); see
``views.SameTarget`` and ``sasrec``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from graphcl.recipes.sequence_model import SPACE as SHARED
from graphcl.recipes.sequence_model import NextItem, RowContrast, SequenceModel, SequenceSettings, encoder
from graphcl.recipes.sequence_model import batches as batches
from graphcl.sequence import Sequences
from graphcl.views import SameTarget

KIND = "sequential"


@dataclass(frozen=True)
class Config(SequenceSettings):
    rows: Literal["user", "prefix"] = "prefix"
    batch_size: int = 256
    weight: float = 0.1  # lambda of the semantic term
    temperature: float = 1.0


PRESETS: dict[str, dict] = {}
SPACE: dict[str, tuple | list] = {**SHARED, "weight": (1e-3, 1.0, "log"), "temperature": (0.1, 2.0, "log")}


def build(config: Config, data: Sequences, *, rng: torch.Generator) -> SequenceModel:
    contrast = RowContrast(SameTarget(data, config.max_length), config.weight, config.temperature)
    return SequenceModel(encoder(config, data, rng), NextItem(config, data), {"contrast": contrast})
