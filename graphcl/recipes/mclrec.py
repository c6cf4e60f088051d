"""MCLRec: two changed histories, two learned augmentations of their states, and updates that alternate.

Paper: Qin et al., "Meta-optimized Contrastive Learning for Sequential Recommendation", SIGIR 2023.
Checked against: QinHsiu/MCLRec@bc8d622.

``updates="ABC"`` is the release: the encoder (A), the augmenters on states of the new encoder (B), the encoder again with the new
augmenters (C), all on one batch and the same changed histories; the regulariser weighs .1 in B. "AB" is the paper's algorithm, where
it weighs .1 beta. Both are first order: B takes the encoder as a constant. "joint" moves everything at once. ``regulariser="row"``
is the release's, over three pairs, "batch" the paper's, over the augmented pair.

Departs: a masked item has a vector of its own (released: the padding id, which attention leaves out); rows of a
batch, negatives of each other, are of about one length (``length_pool=1``: drawn alike, as released); see ``sasrec`` for the loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from graphcl.contracts import Step, Terms
from graphcl.objectives import NTXent
from graphcl.objectives.contrastive_regulariser import contrastive_regulariser
from graphcl.recipes.cl4srec import operators
from graphcl.recipes.sequence_model import SPACE as SHARED
from graphcl.recipes.sequence_model import NextItem, SequenceModel, SequenceSettings, encoder
from graphcl.recipes.sequence_model import batches as batches
from graphcl.sequence import SequenceBatch, Sequences
from graphcl.train import PlainStep
from graphcl.views import LearnedAugment, TwoSequences
from graphcl.views.two_sequences import Encode, Histories

KIND = "sequential"
GAMMA = 0.1  # the regulariser's weight beside L_cl2


@dataclass(frozen=True)
class Config(SequenceSettings):
    rows: Literal["user", "prefix"] = "prefix"
    batch_size: int = 256
    weight: float = 0.03  # lambda, of L_cl1
    augmented_weight: float = 0.1  # beta, of L_cl2
    regulariser: Literal["row", "batch"] = "row"
    updates: Literal["AB", "ABC", "joint"] = "ABC"
    crop: float = 0.5  # share of the items that stays
    mask: float = 0.5
    reorder: float = 0.8
    temperature: float = 1.0


PRESETS: dict[str, dict] = {
    # The paper's (4.5.2) and the scripts'; the release trains at most 100 epochs.
    "sequential/mclrec_Amazon_Beauty": {"weight": 0.0, "augmented_weight": 0.05},
    "sequential/mclrec_Amazon_Sports_and_Outdoors": {"weight": 0.04, "augmented_weight": 0.4},
    "sequential/mclrec_Yelp": {"weight": 0.03, "augmented_weight": 0.1},
}
SPACE: dict[str, tuple | list] = {**SHARED, "weight": (0.0, 0.5), "augmented_weight": (0.01, 0.5, "log")}


def build(config: Config, data: Sequences, *, rng: torch.Generator) -> SequenceModel:
    shares = operators(config.crop, config.mask, config.reorder, data.num_items)
    contrast = MetaContrast(config, TwoSequences(shares, data.num_items), LearnedAugment(config.dim, rng=rng))
    return SequenceModel(encoder(config, data, rng), NextItem(config, data), {"contrast": contrast})


def step(config: Config, model: SequenceModel) -> Step:
    if config.updates == "joint":
        return PlainStep(model, config.learning_rate)
    contrast = model.contrasts["contrast"]
    assert isinstance(contrast, MetaContrast)
    return Alternating(model, contrast, config.learning_rate, again=config.updates == "ABC")


class MetaContrast(nn.Module):
    """lambda L_cl1 + beta (L_cl2 + .1 R) of two changed histories; called as a contrast it draws these itself."""

    def __init__(self, config: Config, views: TwoSequences, augment: LearnedAugment):
        super().__init__()
        self.config, self.views, self.augment, self.objective = config, views, augment, NTXent(config.temperature)

    def forward(self, encode: Encode, inputs: Sequences, batch: SequenceBatch, rng: torch.Generator) -> Tensor:  # scalar
        return self.of_encoder(*encode(*self.changed(batch, rng)).chunk(2))

    def changed(self, batch: SequenceBatch, rng: torch.Generator) -> Histories:  # [2B, T], [2B]
        return self.views.changed(batch.items, batch.lengths, rng)

    def of_encoder(self, first: Tensor, second: Tensor) -> Tensor:  # [B, d] twice -> scalar
        """What the encoder minimises beside the next item."""
        near, apart = self.augmented(first, second)
        c = self.config
        return c.weight * self.objective.between(first, second) + c.augmented_weight * (near + GAMMA * apart)

    def of_augmenters(self, first: Tensor, second: Tensor) -> Tensor:  # [B, d] twice -> scalar
        near, apart = self.augmented(first, second)
        return near + GAMMA * (self.config.augmented_weight if self.config.updates == "AB" else 1) * apart

    def augmented(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:  # two scalars
        """L_cl2 and R."""
        a, b = self.augment(first, second)
        pairs = [(a, b), (first, b), (second, a)]
        near = torch.stack([self.objective.between(*pair) for pair in pairs]).sum()
        kind = self.config.regulariser
        return near, torch.stack([contrastive_regulariser(*pair, kind) for pair in (pairs if kind == "row" else pairs[:1])]).sum()


class Alternating:
    """A step that moves the encoder, then the augmenters, then (``again``) the encoder once more. Each side has an Adam of its own.

    The changed histories are drawn once for all stages, dropout anew for each. The terms are those of the first stage.
    """

    def __init__(self, model: SequenceModel, contrast: MetaContrast, learning_rate: float, *, again: bool):
        self.contrast, self.again = contrast, again
        learned = set(contrast.augment.parameters())
        sides = {
            "encoder": [p for p in model.parameters() if p not in learned],
            "augmenters": list(contrast.augment.parameters()),
        }
        self.optimisers = {name: torch.optim.Adam(side, lr=learning_rate, fused=True) for name, side in sides.items()}
        self.sides = sides

    def __call__(
        self, model: Any, inputs: Any, batch: Any, rng: torch.Generator
    ) -> Terms:  # of SequenceModel, Sequences, SequenceBatch
        changed = self.contrast.changed(batch, rng)
        terms = self.encoder(model, batch, changed, rng)
        with torch.no_grad():
            states = model.encode(rng)(*changed).chunk(2)
        terms["augmenters"] = self.contrast.of_augmenters(*states)
        self.move("augmenters", terms["augmenters"])
        if self.again:
            self.encoder(model, batch, changed, rng)
        return terms

    def encoder(self, model: SequenceModel, batch: SequenceBatch, changed: Histories, rng: torch.Generator) -> Terms:
        terms = {"next": model.next(batch, rng), "contrast": self.contrast.of_encoder(*model.encode(rng)(*changed).chunk(2))}
        self.move("encoder", terms["next"] + terms["contrast"])
        return terms

    def move(self, side: str, loss: Tensor) -> None:
        self.optimisers[side].zero_grad(set_to_none=True)
        loss.backward(inputs=self.sides[side])
        self.optimisers[side].step()

    def state_dict(self) -> dict[str, Any]:
        return {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state[name])
