"""Exact ranks of held-out items among all items, with seen items kept and masked, from the same scores.

Nothing [n, I] is ever held: histories are scored in blocks of like length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from graphcl.metrics import MASKED, RANKS, rank_metrics
from graphcl.sequence import NextItems

TILE_CPU, TILE_DEVICE = 2**22, 2**28  # scores of a block; on the CPU 16 MB, as in `graphcl.rank`
CUTOFFS = (5, 10, 20)
Progress = Callable[[Sequence[int]], Iterable[int]]


class HistoryScorer(Protocol):
    """Scores every item as the next one of histories that are filled with I on the right."""

    num_items: int

    def score(self, items: Tensor, lengths: Tensor) -> Tensor: ...  # [B, T], [B] int64 -> [B, I]


@dataclass(frozen=True, eq=False)
class NextReport:
    """Metrics of ranks, once with a user's seen items kept in the ranking and once with them masked.

    A user's value is the mean over the user's targets, and ``keep`` and ``mask`` are means over users.
    """

    keep: dict[str, float]
    mask: dict[str, float]
    users: np.ndarray  # [n] int64 rows, each once
    per_user: dict[str, np.ndarray]  # each [n]: "ndcg@10", "ndcg@10/masked", ...; and "rank", "rank/masked"

    def means(self, seen: str) -> dict[str, float]:
        return self.mask if seen == "mask" else self.keep


@torch.no_grad()
def next_ranks(
    scorer: HistoryScorer,
    held_out: NextItems,
    *,
    max_length: int | None = None,
    device: torch.device | str = "cpu",
    block: int | None = None,
    unreachable: int | None = None,
    progress: Progress | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Each target's rank with seen items kept, and with them masked: int64 [n] and [n], from 1.

    A rank is 1 + the number of other items that score as much or more: **ties count against the target**, so a scorer that
    cannot tell items apart ranks last. Masked, what stands in the target's history (the whole one, also beyond ``max_length``) is
    left out; a target that stands there itself cannot be reached and has rank ``unreachable`` (None: I).

    The scorer gets the last ``max_length`` items of each history (None: all) on ``device``, ``block`` histories at a time.

    Raises:
        ValueError: scores of another shape, or NaN.
    """
    num_items = held_out.log.num_items
    unreachable = num_items if unreachable is None else unreachable
    order = held_out.lengths.argsort()
    keep, mask = torch.empty_like(order), torch.empty_like(order)
    entries = TILE_CPU if torch.device(device).type == "cpu" else TILE_DEVICE
    blocks = order.split(block) if block is not None else _blocks(order, held_out.lengths, num_items, entries)
    for number in range(len(blocks)) if progress is None else progress(range(len(blocks))):
        rows = blocks[number]
        histories, lengths = held_out.histories(rows, max_length)
        scores = scorer.score(histories.to(device), lengths.to(device))
        if scores.shape != (len(rows), num_items):
            raise ValueError(f"the scorer gave {tuple(scores.shape)} for {len(rows)} histories and {num_items} items")
        if bool(scores.amax(1).isnan().any()):
            raise ValueError("a score is NaN, so nothing can be ranked; training has probably diverged: lower the learning rate")
        targets = held_out.targets[rows].to(device)
        own = scores.gather(1, targets[:, None])
        ranks = (scores >= own).sum(1)
        owner, item = _distinct(*held_out.histories(rows), num_items)
        owner, item = owner.to(device), item.to(device)
        left_out = torch.zeros_like(ranks).index_add_(0, owner, (scores[owner, item] >= own[owner, 0]).long())
        known = torch.zeros_like(ranks).index_add_(0, owner, (item == targets[owner]).long()) > 0
        keep[rows], mask[rows] = ranks.cpu(), torch.where(known, unreachable, ranks - left_out).cpu()
        del scores  # before the next block asks for the same memory
    return keep.numpy(), mask.numpy()


def _blocks(order: Tensor, lengths: Tensor, num_items: int, entries: int) -> list[Tensor]:
    """Rows by ascending length, as many at a time as leave both their scores and their whole histories within ``entries``."""
    room = entries // lengths[order].clamp(min=num_items)  # how many such rows a block may hold
    found, start = [], 0
    while start < len(order):
        most = room[start : start + max(1, int(room[start]))]
        size = max(1, int((most >= torch.arange(1, len(most) + 1)).sum()))
        found.append(order[start : start + size])
        start += size
    return found


def _distinct(items: Tensor, lengths: Tensor, num_items: int) -> tuple[Tensor, Tensor]:  # [B, T], [B] -> [m], [m]
    """The distinct items of every row: whose each is, and which."""
    codes = items + torch.arange(len(items))[:, None] * num_items
    found = codes[torch.arange(items.shape[1]) < lengths[:, None]].unique()
    return found // num_items, found % num_items


def evaluate_next(
    scorer: HistoryScorer,
    held_out: NextItems,
    *,
    ks: Sequence[int] = CUTOFFS,
    max_length: int | None = None,
    device: torch.device | str = "cpu",
    block: int | None = None,
    progress: Progress | None = None,
) -> NextReport:
    """Metrics of `next_ranks`, whose tie rule and errors are these. What cannot be reached is no hit, however few items there are."""
    kept, masked = next_ranks(
        scorer, held_out, max_length=max_length, device=device, block=block, progress=progress,
        unreachable=max(held_out.log.num_items, max(ks) + 1),
    )  # fmt: skip
    users, owner = np.unique(held_out.users.numpy(), return_inverse=True)
    counts = np.bincount(owner)
    per_user: dict[str, np.ndarray] = {}
    for ranks, ending in ((kept, ""), (masked, f"/{MASKED}")):
        found = {"rank": ranks, **rank_metrics(ranks, ks, RANKS)}
        per_user |= {f"{key}{ending}": np.bincount(owner, weights=values) / counts for key, values in found.items()}
    means = {key: float(values.mean()) for key, values in per_user.items() if "@" in key}
    keep = {key: value for key, value in means.items() if not key.endswith(MASKED)}
    mask = {key.removesuffix(f"/{MASKED}"): value for key, value in means.items() if key not in keep}
    return NextReport(keep, mask, users, per_user)
