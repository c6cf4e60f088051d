"""Two changed copies of every history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from graphcl.ops import draw_key, uniform
from graphcl.sequence import SequenceBatch, Sequences

Histories: TypeAlias = tuple[Tensor, Tensor]  # items [B, T], lengths [B]
Encode: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # items [B, T], lengths [B] -> the states after the last items [B, d]
Views: TypeAlias = tuple[Tensor, Tensor]  # [B, d] twice, row by row positives of each other


class TwoSequences:
    """Each row changed twice, by operators (``operator(items, lengths, rng=rng)``, see ``graphcl.perturb.sequences``) that are drawn.

    ``distinct``: a row's two operators differ, and a row of one item stays as it is in both (CL4SRec, MCLRec). Otherwise each view
    draws its operator by itself (CoSeRec).

    Raises:
        ValueError: no operator, or a single one that would have to differ from itself.
    """

    def __init__(self, operators: Sequence[Callable[..., Histories]], no_item: int, *, distinct: bool = True):
        if len(operators) < 1 + distinct:
            raise ValueError(f"{'two operators' if distinct else 'an operator'} at least, got {len(operators)}")
        self.operators, self.no_item, self.distinct = list(operators), no_item, distinct

    def __call__(self, encode: Encode, inputs: Sequences, batch: SequenceBatch, rng: torch.Generator) -> Views:
        first, second = encode(*self.changed(batch.items, batch.lengths, rng)).chunk(2)
        return first, second

    def changed(self, items: Tensor, lengths: Tensor, rng: torch.Generator) -> Histories:
        """The first views of all rows, then the second ones: [2B, T], [2B]."""
        count, rows = len(self.operators), torch.arange(len(items), device=items.device)
        draws = uniform(draw_key(rng), rows, 2).double()
        first = (draws[:, 0] * count).long()
        if self.distinct:
            second = (first + 1 + (draws[:, 1] * (count - 1)).long()) % count
            first, second = (which.masked_fill(lengths == 1, count) for which in (first, second))
        else:
            second = (draws[:, 1] * count).long()
        which, both = torch.cat([first, second]), (items.repeat(2, 1), lengths.repeat(2))
        groups = [(which == number).nonzero().flatten() for number in range(count + 1)]
        operators = [*self.operators, lambda items, lengths, rng: (items, lengths)]
        parts = [operator(both[0][g], both[1][g], rng=rng) for operator, g in zip(operators, groups, strict=True) if len(g)]
        return tuple(x[torch.cat(groups).argsort()] for x in stacked(parts, self.no_item))  # type: ignore[return-value]


def stacked(parts: Sequence[Histories], no_item: int) -> Histories:
    """Rows of several widths one below the other."""
    width = max(items.shape[1] for items, _ in parts)
    items = torch.cat([F.pad(items, (0, width - items.shape[1]), value=no_item) for items, _ in parts])
    return items, torch.cat([lengths for _, lengths in parts])
