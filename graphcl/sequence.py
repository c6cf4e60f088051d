"""Item histories, and the batches of them that encoders are trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from graphcl.interactions import Interactions, Vocabulary
from graphcl.ops.segment import pointers_of


def in_order(log: Interactions) -> np.ndarray:
    """The rows of a log by user, then by time; equal times, and rows without a time, in file order. int64 [E]."""
    return np.lexsort((log.users,) if log.time is None else (log.time, log.users))


def padded(items: Tensor, stops: Tensor, lengths: Tensor, fill: int) -> Tensor:  # [E], [B], [B] -> [B, T]
    """The ``lengths[b]`` items that end before place ``stops[b]``, oldest first, filled on the right to the longest."""
    column = torch.arange(int(lengths.max()) if len(lengths) else 0, device=items.device)
    places = (stops - lengths)[:, None] + column
    return torch.where(column < lengths[:, None], items[places.clamp(max=len(items) - 1)], fill)


@dataclass(frozen=True, eq=False)
class Sequences:
    """Every user's items, oldest first; repeats stay.

    Items are numbered 0..I - 1. The number I stands for no item: it fills rows on the right and is the token that masks, so an
    encoder's table has I + 1 rows.
    """

    items: Tensor  # [E] int64, the histories one after the other
    pointers: Tensor  # [U + 1] int64, where each user's begins and ends
    user_ids: Vocabulary
    item_ids: Vocabulary

    @classmethod
    def from_interactions(cls, log: Interactions) -> Sequences:
        """Every user's rows by time; equal times, and rows without a time, in file order. Vocabularies stay as they are."""
        items = torch.from_numpy(log.items[in_order(log)].astype(np.int64))
        counts = torch.from_numpy(np.bincount(log.users, minlength=log.num_users))
        return cls(items, pointers_of(counts), log.user_ids, log.item_ids)

    @property
    def num_users(self) -> int:
        return len(self.pointers) - 1

    @property
    def num_items(self) -> int:
        return len(self.item_ids)

    @property
    def lengths(self) -> Tensor:  # [U] int64
        return self.pointers.diff()

    @property
    def users(self) -> Tensor:  # [E] int64, whose each item is
        return torch.arange(self.num_users, device=self.pointers.device).repeat_interleave(self.lengths)

    def first(self, lengths: Tensor) -> Sequences:  # [U]
        """Of every user the first ``lengths[user]`` items."""
        owners = self.users
        kept = torch.arange(len(self.items), device=owners.device) - self.pointers[owners] < lengths[owners]
        return replace(self, items=self.items[kept], pointers=pointers_of(lengths))

    def histories(self, users: Tensor, max_length: int | None = None) -> tuple[Tensor, Tensor]:  # [B] -> [B, T], [B]
        """Items of these users and how many; of long histories the last ``max_length``."""
        lengths = _at_most(max_length, self.lengths[users])
        return padded(self.items, self.pointers[users + 1], lengths, self.num_items), lengths

    def to(self, device: torch.device | str) -> Sequences:
        return replace(self, items=self.items.to(device), pointers=self.pointers.to(device))


def _at_most(max_length: int | None, lengths: Tensor) -> Tensor:
    return lengths if max_length is None else lengths.clamp(max=max_length)


@dataclass(frozen=True, eq=False)
class NextItems:
    """Items to be guessed, each from all that its user had before it, held-out items among it."""

    log: Sequences  # every item
    users: Tensor  # [n] int64
    places: Tensor  # [n] int64, where each target stands in ``log.items``

    def __len__(self) -> int:
        return len(self.users)

    @property
    def targets(self) -> Tensor:  # [n] int64
        return self.log.items[self.places]

    @property
    def lengths(self) -> Tensor:  # [n] int64, of the whole histories
        return self.places - self.log.pointers[self.users]

    def histories(self, rows: Tensor, max_length: int | None = None) -> tuple[Tensor, Tensor]:  # [B] -> [B, T], [B]
        """What stands before targets ``rows`` and how much it is; of long histories the last ``max_length``."""
        lengths = _at_most(max_length, self.lengths[rows])
        return padded(self.log.items, self.places[rows], lengths, self.log.num_items), lengths


@dataclass(frozen=True, eq=False)
class SequenceBatch:
    """Histories padded on the right, and the positions at which the next item is asked for.

    A row's item at position t is followed by ``targets[r]`` where ``places[r] == row * T + t``. Nothing of it is written in place.
    """

    items: Tensor  # [B, T] int64, I beyond a row's length
    lengths: Tensor  # [B] int64, 1..T
    places: Tensor  # [R] int64, rising
    targets: Tensor  # [R] int64, 0..I - 1
    users: Tensor  # [B] int64, whose history each row is of

    def to(self, device: torch.device | str) -> SequenceBatch:
        return SequenceBatch(*(getattr(self, name).to(device) for name in ("items", "lengths", "places", "targets", "users")))
