"""What the recipes for item histories share: settings, the model, and the batches they train on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from graphcl.contracts import Batches, Terms
from graphcl.data.sequence_batches import prefix_rows, user_rows
from graphcl.data.unseen import Unseen
from graphcl.encoders import SASRec
from graphcl.objectives import NTXent
from graphcl.objectives.next_item import binary, calibrated_binary, full_softmax, sampled_softmax
from graphcl.recipes.settings import SequenceTraining
from graphcl.sequence import SequenceBatch, Sequences
from graphcl.train import evaluating
from graphcl.views.two_sequences import Encode, Views


@dataclass(frozen=True)
class SequenceSettings(SequenceTraining):
    num_layers: int = 2
    num_heads: int = 2
    inner: int = 256  # width between the two layers of a feed-forward
    dropout: float = 0.5
    attention_dropout: float = 0.5
    rows: Literal["user", "prefix"] = "user"  # a row a user with a target at each position, or a row a target
    length_pool: int = 16  # batches that are sorted by length together, for rows of about one length each; 1: rows drawn alike
    loss: Literal["ce", "sampled", "gbce", "bce"] = "ce"
    num_negatives: int = 256  # of sampled and gbce: drawn once a step; bce has one for each target
    log_q: bool = False  # of sampled: a negative stands for the share of the catalogue it was drawn from
    calibration: float = 0.75  # of gbce: t

    def __post_init__(self) -> None:
        if self.num_negatives < 1:
            raise ValueError(f"num_negatives must be 1 or more, got {self.num_negatives}")
        if not 0 <= self.calibration <= 1:
            raise ValueError(f"calibration must lie in [0, 1], got {self.calibration}")


SPACE: dict[str, tuple | list] = {
    "learning_rate": (3e-4, 3e-3, "log"),
    "dropout": (0.1, 0.7),
    "num_layers": (1, 3),
}


def batches(config: SequenceSettings, data: Sequences) -> Batches:
    rows = user_rows if config.rows == "user" else prefix_rows
    return rows(data, config.max_length, config.batch_size, config.length_pool)


def encoder(config: SequenceSettings, data: Sequences, rng: torch.Generator) -> SASRec:
    return SASRec(
        data.num_items, config.dim, max_length=config.max_length, num_layers=config.num_layers, num_heads=config.num_heads,
        inner=config.inner, dropout=config.dropout, attention_dropout=config.attention_dropout, rng=rng,
    )  # fmt: skip


class NextItem:
    """The loss of the next item that a setting names."""

    def __init__(self, config: SequenceSettings, data: Sequences):
        self.config = config
        self.unseen = Unseen(data) if config.loss == "bce" else None

    def __call__(self, hidden: Tensor, table: Tensor, batch: SequenceBatch, rng: torch.Generator) -> Tensor:
        config, targets = self.config, batch.targets
        if config.loss == "ce":
            return full_softmax(hidden, table, targets)
        if self.unseen is not None:
            return binary(hidden, table, targets, self.unseen(batch.users[batch.places // batch.items.shape[1]], 1, rng))
        drawn = torch.randint(len(table), (config.num_negatives,), generator=rng, device=rng.device).to(targets.device)
        if config.loss == "sampled":
            return sampled_softmax(hidden, table, targets, drawn, log_q=config.log_q)
        return calibrated_binary(hidden, table, targets, drawn, calibration=config.calibration)


class RowContrast(nn.Module):
    """Two views of a batch's rows, each row's against the others'."""

    def __init__(
        self, views: Callable[[Encode, Sequences, SequenceBatch, torch.Generator], Views], weight: float, temperature: float = 1.0
    ):
        super().__init__()
        self.views, self.weight, self.objective = views, weight, NTXent(temperature)

    def forward(self, encode: Encode, inputs: Sequences, batch: SequenceBatch, rng: torch.Generator) -> Tensor:  # scalar
        return self.weight * self.objective.between(*self.views(encode, inputs, batch, rng))


class SequenceModel(nn.Module):
    """An encoder of histories, the loss of the next item and contrasts of rows.

    A contrast is called as ``contrast(encode, inputs, batch, rng)`` and returns a scalar, weighted already.
    """

    def __init__(self, encoder: SASRec, task: NextItem, contrasts: Mapping[str, nn.Module] | None = None):
        super().__init__()
        self.encoder, self.task = encoder, task
        self.contrasts = nn.ModuleDict(contrasts)

    @property
    def num_items(self) -> int:
        return self.encoder.num_items

    def item_vectors(self) -> Tensor:  # [I, d]
        return self.encoder.items[: self.num_items]

    def losses(self, inputs: Sequences, batch: SequenceBatch, rng: torch.Generator) -> Terms:
        terms = {"next": self.next(batch, rng)}
        for name, contrast in self.contrasts.items():
            terms[name] = contrast(self.encode(rng), inputs, batch, rng)
        return terms

    def next(self, batch: SequenceBatch, rng: torch.Generator) -> Tensor:  # scalar
        hidden = self.encoder(batch.items, batch.lengths, batch.places, rng=rng)
        return self.task(hidden, self.item_vectors(), batch, rng)

    def encode(self, rng: torch.Generator) -> Encode:
        return lambda items, lengths: self.encoder.last(items, lengths, rng=rng)

    @torch.no_grad()
    def score(self, items: Tensor, lengths: Tensor) -> Tensor:  # [B, T], [B] -> [B, I]
        """Without dropout."""
        with evaluating(self):
            return self.encoder.last(items, lengths) @ self.item_vectors().T
