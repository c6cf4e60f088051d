"""Item histories, and the batches of them that encoders are trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from graphcl.interactions import Vocabulary


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

    @property
    def num_users(self) -> int:
        return len(self.pointers) - 1

    @property
    def num_items(self) -> int:
        return len(self.item_ids)

    @property
    def lengths(self) -> Tensor:  # [U] int64
        return self.pointers.diff()

    def to(self, device: torch.device | str) -> Sequences:
        return replace(self, items=self.items.to(device), pointers=self.pointers.to(device))


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
