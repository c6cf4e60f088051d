"""SRA-CL: histories against a learned mixture of those that are nearest in meaning, and against themselves with items substituted.

Paper: Cui et al., "Semantic Retrieval Augmented Contrastive Learning for Sequential Recommendation", NeurIPS 2025.
Checked against: ziqiangcui/SRA-CL@301353d.

Meaning is any float matrix, a row an item: ``item_embeddings`` names a ``.npy`` file [I, f] in the order of the data set's external
item ids (whole numbers ascending, texts of whole numbers too, else texts ascending). ``sequence_embeddings`` may name another [U, f],
in the order of external user ids; without it a history means the mean of its items. That file must be made of training parts: what it
knows of held-out items is trained on.

Two controls need no file. ``semantics="random"`` draws both matrices, so that neighbours are anybody's histories: what is left is
ten more histories a row. ``semantics="overlap"`` draws the items' only: means of random vectors are near where histories share items,
which is no meaning, but is not nothing either.

Departs: the pool is training parts only, one a user (``views.Retrieved``); with ``sequence_embeddings`` every row of a user has that
one vector, which knows the row's target too (released: a vector for each prefix); an item is never replaced by padding; positions
count from the oldest item, with padding on the right (released: on the left); rows of a batch, negatives of each other, are of about
one length (``length_pool=1``: drawn alike, as released); see ``sasrec`` for the loss.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from graphcl.data.encode import whole_numbers
from graphcl.data.source import expanded
from graphcl.interactions import Vocabulary
from graphcl.perturb.sequences import substitute_each
from graphcl.recipes.sequence_model import SPACE as SHARED
from graphcl.recipes.sequence_model import NextItem, RowContrast, SequenceModel, SequenceSettings, encoder
from graphcl.recipes.sequence_model import batches as batches
from graphcl.sequence import Sequences
from graphcl.views import Retrieved, TwoSequences
from graphcl.views.retrieved import nearest
from graphcl.views.two_sequences import Histories

KIND = "sequential"
RANDOM_WIDTH = 64


@dataclass(frozen=True)
class Config(SequenceSettings):
    rows: Literal["user", "prefix"] = "prefix"
    batch_size: int = 256
    max_length: int = 20
    item_embeddings: str = ""  # path of a .npy [I, f]
    sequence_embeddings: str = ""  # path of a .npy [U, f]; "": means of item vectors
    semantics: Literal["file", "random", "overlap"] = "file"
    user_weight: float = 0.1  # alpha, of L_CS
    item_weight: float = 0.1  # beta, of L_IS
    num_neighbours: int = 10  # k, of histories and of items
    substitution: float = 0.2  # probability of each item
    attention: Literal["static", "dot"] = "static"
    attention_weights_dropout: float = 0.5  # of the weights in the mixture
    temperature: float = 1.0


PRESETS: dict[str, dict] = {}
SPACE: dict[str, tuple | list] = {
    **SHARED, "user_weight": (0.01, 0.5, "log"), "item_weight": (0.01, 0.5, "log"), "substitution": (0.1, 0.5),
}  # fmt: skip


def build(config: Config, data: Sequences, *, rng: torch.Generator) -> SequenceModel:
    if not 0 <= config.substitution <= 1:
        raise ValueError(f"substitution is a probability and must lie in [0, 1], got {config.substitution}")
    body = encoder(config, data, rng)
    vectors, histories = meaning(config, data, rng)
    users = Retrieved(
        data, vectors, sequence_vectors=histories, num_neighbours=config.num_neighbours, max_length=config.max_length,
        dim=config.dim, attention=config.attention, dropout=config.attention_weights_dropout, rng=rng,
    )  # fmt: skip
    items = TwoSequences([Substitution(vectors, config)], data.num_items, distinct=False)
    contrasts = {
        "retrieved": RowContrast(users, config.user_weight, config.temperature),
        "substituted": RowContrast(items, config.item_weight, config.temperature),
    }
    return SequenceModel(body, NextItem(config, data), contrasts)


def ranker(config: Config, data: Sequences, *, rng: torch.Generator) -> SequenceModel:
    """What ranks needs no meaning, so a finished run needs no file."""
    return SequenceModel(encoder(config, data, rng), NextItem(config, data))


def files(config: Config) -> dict[str, str]:
    return {"item_embeddings": config.item_embeddings, "sequence_embeddings": config.sequence_embeddings}


class Substitution:
    """Each item becomes one of its nearest in meaning, with a probability."""

    def __init__(self, vectors: Tensor, config: Config):  # [I, f]
        self.similar, self.probability = nearest(vectors, config.num_neighbours), config.substitution

    def __call__(self, items: Tensor, lengths: Tensor, *, rng: torch.Generator) -> Histories:
        self.similar = self.similar.to(items.device)
        return substitute_each(items, lengths, probability=self.probability, similar=self.similar, rng=rng)


def meaning(config: Config, data: Sequences, rng: torch.Generator) -> tuple[Tensor, Tensor | None]:  # [I, f], [U, f]
    if config.semantics != "file":
        if config.item_embeddings or config.sequence_embeddings:
            raise ValueError(
                f"semantics={config.semantics} draws its vectors; leave item_embeddings and sequence_embeddings away"
            )
        items = torch.randn(data.num_items, RANDOM_WIDTH, generator=rng)
        return items, torch.randn(data.num_users, RANDOM_WIDTH, generator=rng) if config.semantics == "random" else None
    if not config.item_embeddings:
        raise ValueError(
            "sracl needs what items mean: set item_embeddings=FILE.npy, one row an item in the order of item ids, "
            "or ask for a control with semantics=random or semantics=overlap"
        )
    histories = read(config.sequence_embeddings, data.user_ids, "user") if config.sequence_embeddings else None
    return read(config.item_embeddings, data.item_ids, "item"), histories


def read(path: str, ids: Vocabulary, what: str) -> Tensor:  # [n, f] float32
    """A matrix in the order of external ids, as rows of the vocabulary.

    Raises:
        ValueError: no such file, not a matrix of finite numbers, or not a row an id.
    """
    name = f"{what}_embeddings" if what == "item" else "sequence_embeddings"
    try:
        table = np.load(expanded(path), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{name}: {path} cannot be read as a .npy file: {error}") from None
    if not isinstance(table, np.ndarray) or table.ndim != 2 or table.dtype.kind not in "fiu":
        found = f"{table.dtype} of shape {table.shape}" if isinstance(table, np.ndarray) else "an archive"
        raise ValueError(f"{name}: {path} must hold a matrix of numbers, {what}s x width, got {found}")
    if len(table) != len(ids) or table.shape[1] < 1:
        raise ValueError(f"{name}: {path} must have a row for each of the {len(ids)} {what}s, got shape {table.shape}")
    table = table.astype(np.float32)
    broken = np.flatnonzero(~np.isfinite(table).all(1))
    if len(broken):
        raise ValueError(f"{name}: row {broken[0]} of {path} (counted from 0) holds a number that is not finite")
    nothing = int((~table.any(1)).sum())
    if nothing:
        warnings.warn(
            f"{name}: {nothing} rows of {path} are zero: nothing is near them, so their neighbours are arbitrary", stacklevel=2
        )
    rank = np.empty(len(ids), dtype=np.int64)  # where a vocabulary's row stands among ascending ids
    numbers = whole_numbers(ids.ids) if ids.ids.dtype == object else None
    rank[np.argsort(ids.ids if numbers is None else numbers, kind="stable")] = np.arange(len(ids))
    return torch.from_numpy(table[rank])
