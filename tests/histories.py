"""Small histories, and batches of them written out by hand."""

import numpy as np
import torch

from graphcl.interactions import Vocabulary
from graphcl.sequence import SequenceBatch, Sequences

# 4 users, 7 items; user 1 repeats an item, user 3 has one item only, item 6 stands nowhere
HISTORIES = [[0, 1, 2, 3], [2, 2, 4], [5, 1, 2], [3]]
NUM_ITEMS = 7


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def histories(rows=HISTORIES, num_items=NUM_ITEMS) -> Sequences:
    lengths = torch.tensor([0, *map(len, rows)])
    items = torch.tensor([item for row in rows for item in row])
    return Sequences(items, lengths.cumsum(0), Vocabulary(np.arange(len(rows))), Vocabulary(np.arange(num_items)))


def padded(rows, num_items=NUM_ITEMS, width=None):
    """Items [B, T] and lengths [B]."""
    width = max(map(len, rows)) if width is None else width
    items = torch.tensor([[*row, *[num_items] * (width - len(row))] for row in rows])
    return items, torch.tensor([len(row) for row in rows])


def user_batch(rows=HISTORIES, num_items=NUM_ITEMS, users=None) -> SequenceBatch:
    """A row for each history of two items or more, with a target at each position."""
    kept = [(user, row) for user, row in enumerate(rows) if len(row) > 1]
    items, lengths = padded([row[:-1] for _, row in kept], num_items)
    width = items.shape[1]
    places = torch.tensor([b * width + t for b, (_, row) in enumerate(kept) for t in range(len(row) - 1)])
    targets = torch.tensor([item for _, row in kept for item in row[1:]])
    return SequenceBatch(items, lengths, places, targets, torch.tensor([u for u, _ in kept]) if users is None else users)


def prefix_batch(rows=HISTORIES, num_items=NUM_ITEMS) -> SequenceBatch:
    """A row for each target, with what precedes it."""
    found = [(user, row[:end], row[end]) for user, row in enumerate(rows) for end in range(1, len(row))]
    items, lengths = padded([prefix for _, prefix, _ in found], num_items)
    places = torch.arange(len(found)) * items.shape[1] + lengths - 1
    return SequenceBatch(items, lengths, places, torch.tensor([t for *_, t in found]), torch.tensor([u for u, *_ in found]))
