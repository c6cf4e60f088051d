"""Training batches that hold a number of users, with some positives and as many negatives of each."""

from __future__ import annotations

from collections.abc import Iterator

import numba
import numpy as np
import torch

from graphcl.contracts import Batch
from graphcl.data.sample import check_drawable
from graphcl.interactions import Interactions
from graphcl.ops.counter import below, draw_key, halves, row_state


@numba.njit(parallel=True, cache=True)
def _draw(indptr, indices, users, num_items, low, high, starts, positives, negatives):
    """For user n of the epoch, entries starts[n]..starts[n + 1]: items of theirs and items not theirs, none twice."""
    for n in numba.prange(len(users)):
        state = row_state(low, high, n)
        begin, end = indptr[users[n]], indptr[users[n] + 1]
        first, last = starts[n], starts[n + 1]
        attempt = 0
        found = first
        for place in range(begin, end):  # Knuth's selection sampling: each set of this size is as likely as any other
            if below(state, attempt, end - place) < last - found:
                positives[found] = indices[place]
                found += 1
            attempt += 1
        found = first
        while found < last:
            item = below(state, attempt, num_items)
            attempt += 1
            place = begin + np.searchsorted(indices[begin:end], item)
            fresh = place == end or indices[place] != item
            for earlier in range(first, found):
                fresh = fresh and negatives[earlier] != item
            if fresh:
                negatives[found] = item
                found += 1


class UserBatches:
    """Epochs over users: up to ``epoch_users`` of them in random order, ``batch_size`` a step.

    Each brings up to ``samples`` different items of theirs, and beside each an item that is not theirs, these different too; fewer
    where a user has fewer items, or all but fewer. Users without items are never drawn.

    Source: HKUDS/LightGCL@5590453, old_setting/main.py.

    Raises:
        ValueError: a size below 1, no training pairs, or a user who has every item and so no negative.
    """

    def __init__(self, train: Interactions, batch_size: int, *, epoch_users: int, samples: int):
        for name, size in (("batch_size", batch_size), ("epoch_users", epoch_users), ("samples", samples)):
            if size < 1:
                raise ValueError(f"{name} must be 1 or more, got {size}")
        matrix = train.matrix
        check_drawable(matrix, train)
        counts = np.diff(matrix.indptr).astype(np.int64)
        self.indptr, self.indices = matrix.indptr.astype(np.int64), matrix.indices
        self.num_users, self.num_items = train.num_users, train.num_items
        self.batch_size, self.epoch_users = batch_size, epoch_users
        self.taken = np.minimum(np.minimum(counts, train.num_items - counts), samples)  # [U] items of each kind a user brings
        self.active = np.flatnonzero(counts)

    def __len__(self) -> int:
        """Steps of an epoch."""
        return -(-min(self.epoch_users, len(self.active)) // self.batch_size)

    def __call__(self, rng: torch.Generator) -> Iterator[Batch]:
        users = self.active[torch.randperm(len(self.active), generator=rng).numpy()[: self.epoch_users]]
        starts = np.concatenate([[0], self.taken[users].cumsum()])
        positives, negatives = np.empty(starts[-1], dtype=np.int64), np.empty(starts[-1], dtype=np.int64)
        _draw(
            self.indptr, self.indices, users, self.num_items, *halves(draw_key(rng)), starts, positives, negatives
        )  # fmt: skip
        columns = [
            torch.from_numpy(c)
            for c in (np.repeat(users, self.taken[users]), positives + self.num_users, negatives + self.num_users)
        ]
        for start in range(0, len(users), self.batch_size):
            stop = min(start + self.batch_size, len(users))
            yield Batch(*(c[starts[start] : starts[stop]] for c in columns))
