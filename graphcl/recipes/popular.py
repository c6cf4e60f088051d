"""Most popular: every item scores its number of train interactions, the same for everybody.

The floor under every table: a recipe that stays below it has learned nothing about persons.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphcl.interactions import Interactions
from graphcl.rank import history_rows

KIND = "general"


@dataclass(frozen=True)
class Config:
    """Nothing to set."""


PRESETS: dict[str, dict] = {}
SPACE: dict[str, tuple | list] = {}


class Popular:
    """Scores by popularity; a user's history plays no part."""

    def __init__(self, train: sparse.csr_matrix, degree: Tensor) -> None:
        self.train, self.degree = train, degree  # [U, I], [I] float32
        self.num_items = len(degree)

    def score(self, users: Tensor | sparse.csr_matrix) -> Tensor:  # [b, I]
        return self.degree.repeat(history_rows(users, self.train).shape[0], 1)

    def state(self) -> dict[str, Tensor]:
        return {"degree": self.degree}


def build(config: Config, data: Interactions, *, rng: torch.Generator | None = None) -> Popular:
    degree = np.bincount(data.matrix.indices, minlength=data.num_items)
    return Popular(data.matrix, torch.from_numpy(degree.astype(np.float32)))


def restore(config: Config, data: Interactions, state: dict[str, Tensor]) -> Popular:
    return Popular(data.matrix, state["degree"])
