"""Training rows of histories, in batches of rows about as long as each other.

Rows are drawn in random order; ``pool`` batches of them at a time are sorted by length and cut, and the batches come in random
order. With a pool of 1 a batch's rows are drawn alike. A batch is as wide as its longest row.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from graphcl.contracts import Batches
from graphcl.sequence import SequenceBatch, Sequences, padded

POOL = 16


def user_rows(train: Sequences, max_length: int, batch_size: int, length_pool: int = POOL) -> Batches:
    """Epochs with a row for each user, where at every position the next item is a target: every item but a user's first is one.

    Batches hold about ``batch_size`` targets, all about as many. A history with more than ``max_length`` targets is cut from
    its end into rows of so many (the oldest may be shorter): no target is lost, but those early in a row see only what stands in it.

    Raises:
        ValueError: a size below 1, or no user with two items.
    """
    _check(train, max_length=max_length, batch_size=batch_size, length_pool=length_pool)
    wanted = (train.lengths - 1).clamp(min=0)
    rows = (wanted + max_length - 1) // max_length
    users = torch.arange(train.num_users).repeat_interleave(rows)
    later = (torch.arange(len(users)) - (rows.cumsum(0) - rows)[users]) * max_length  # targets of the user in rows after this one
    lengths = (wanted[users] - later).clamp(max=max_length)
    stops = train.pointers[users + 1] - 1 - later

    def epoch(rng: torch.Generator) -> Iterator[SequenceBatch]:
        for some in _batches(lengths, lengths, batch_size, length_pool, rng):
            size, stop = lengths[some], stops[some]
            items = padded(train.items, stop, size, train.num_items)
            inside = torch.arange(items.shape[1]) < size[:, None]
            targets = padded(train.items, stop + 1, size, train.num_items)[inside]
            yield SequenceBatch(items, size, inside.flatten().nonzero()[:, 0], targets, users[some])

    return epoch


def prefix_rows(train: Sequences, max_length: int, batch_size: int, length_pool: int = POOL) -> Batches:
    """Epochs with a row for every item but a user's first: it is the one target, after the ``max_length`` items before it.

    Batches hold about ``batch_size`` rows, all about as many.

    Raises:
        ValueError: a size below 1, or no user with two items.
    """
    _check(train, max_length=max_length, batch_size=batch_size, length_pool=length_pool)
    owners = train.users
    before = torch.arange(len(owners)) - train.pointers[owners]
    stops = before.nonzero()[:, 0]
    lengths = before[stops].clamp(max=max_length)

    def epoch(rng: torch.Generator) -> Iterator[SequenceBatch]:
        for some in _batches(lengths, torch.ones_like(lengths), batch_size, length_pool, rng):
            size, stop = lengths[some], stops[some]
            items = padded(train.items, stop, size, train.num_items)
            places = torch.arange(len(some)) * items.shape[1] + size - 1
            yield SequenceBatch(items, size, places, train.items[stop], owners[stop])

    return epoch


def _check(train: Sequences, **sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be 1 or more, got {size}")
    if not bool((train.lengths > 1).any()):
        raise ValueError("there is nothing to train on: no user has two items in the training part")


def _batches(lengths: Tensor, weights: Tensor, weight: int, pool: int, rng: torch.Generator) -> Iterator[Tensor]:  # both [R]
    """Row numbers of each batch; the weights of a batch add up to about ``weight``."""
    order = torch.randperm(len(lengths), generator=rng)
    total = int(weights.sum())
    count = max(1, round(total / weight))

    def part(of: int) -> Tensor:
        """To which of so many equal parts of the weight each row of ``order`` belongs, int64 [R]."""
        mine = weights[order]
        return (mine.cumsum(0) - mine) * of // total

    pools = part(-(-count // pool))
    sizes = torch.where(
        pools % 2 == 0, lengths[order], -lengths[order]
    )  # up and down, so that neighbouring pools meet at like lengths
    order = order[(pools * (2 * int(lengths.max()) + 1) + sizes).argsort(stable=True)]
    stops = part(count).bincount(minlength=count).cumsum(0).tolist()
    starts = [0, *stops]
    for number in torch.randperm(count, generator=rng).tolist():
        if starts[number] < stops[number]:
            yield order[starts[number] : stops[number]]
