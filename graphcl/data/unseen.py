"""Items that are not in a user's training history."""

from __future__ import annotations

import torch
from torch import Tensor

from graphcl.sequence import Sequences


class Unseen:
    """Draws uniformly among the items that a user has not had in training; what is held out may be drawn.

    Raises:
        ValueError: a user who has had every item.
    """

    def __init__(self, train: Sequences):
        self.num_items = train.num_items
        self._known = (train.users * self.num_items + train.items).unique()  # sorted
        counts = torch.bincount(self._known // self.num_items, minlength=train.num_users)
        full = (counts >= self.num_items).nonzero().flatten().tolist()
        if full:
            raise ValueError(f"user {train.user_ids.ids[full[0]]} has had every item, so there is no negative to draw")

    def __call__(self, users: Tensor, count: int, rng: torch.Generator) -> Tensor:  # [R] -> [R, count]
        bases = (users * self.num_items)[:, None].expand(-1, count).flatten()
        known = self._known = self._known.to(users.device)
        found = self._draw(len(bases), rng, users)
        todo = torch.arange(len(bases), device=users.device)
        while len(todo):
            keys = bases[todo] + found[todo]
            place = torch.searchsorted(known, keys).clamp_max_(len(known) - 1)
            todo = todo[known[place] == keys]
            found[todo] = self._draw(len(todo), rng, users)
        return found.view(-1, count)

    def _draw(self, count: int, rng: torch.Generator, like: Tensor) -> Tensor:
        return torch.randint(self.num_items, (count,), generator=rng, device=rng.device).to(like.device)
