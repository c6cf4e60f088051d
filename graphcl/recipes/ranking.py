"""The recommendation task of every graph recipe: a pairwise loss and one of three decays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from graphcl.contracts import Terms
from graphcl.encoders.readout import layer
from graphcl.objectives.bpr import bpr
from graphcl.recipes.model import Model, Pass, Triple

Decay = Literal["input", "output", "parameters"]


@dataclass(frozen=True)
class Ranking:
    """``loss`` of the triples' readout (BPR), plus ``weight`` times a decay:

    "input":      0.5 (|u0|^2 + |i0|^2 + |j0|^2) / B on layer 0 of the triples (LightGCN, SGL);
    "output":     (|U|_F + |I|_F) / B, Frobenius norms *not squared*, on the final rows of users and positives (SELFRec);
    "parameters": the squared norm of all parameters (LightGCL).
    """

    weight: float
    decay: Decay = "input"
    loss: Callable[[Tensor, Tensor, Tensor], Tensor] = bpr  # users, positives, negatives [B, d] -> scalar
    name: str = "bpr"  # of the term

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise ValueError(f"decay must be 0 or more, got {self.weight}")
        if self.decay not in get_args(Decay):
            raise ValueError(f"decay must be one of {', '.join(get_args(Decay))}, got {self.decay!r}")

    def __call__(self, forward: Pass, model: Model) -> Terms:
        rows = forward.triple(model.readout)
        terms: Terms = {self.name: self.loss(*rows)}
        if self.weight:
            terms["decay"] = self.weight * self._decay(forward, model, rows)
        return terms

    def _decay(self, forward: Pass, model: Model, rows: Triple) -> Tensor:
        count = len(rows.users)
        if self.decay == "input":
            read, counts = forward.each_once(layer(0))
            return counts.to(read.dtype) @ read.square().sum(1) / (2 * count)
        if self.decay == "output":
            return (rows.users.norm() + rows.positives.norm()) / count
        return torch.stack([p.square().sum() for p in model.parameters()]).sum()
