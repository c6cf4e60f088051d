"""Training batches for pairwise ranking."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numba
import numpy as np
import torch
from scipy import sparse

from graphcl.contracts import Batch
from graphcl.interactions import Interactions, pattern
from graphcl.ops.counter import below, draw_key, halves, row_state

_AT_A_TIME = 2**20  # triples drawn together: an epoch of hundreds of millions is never held but for its order


@numba.njit(parallel=True, cache=True)
def _draw(indptr, indices, entries, num_items, low, high, first, users, positives, negatives):
    """The ends of each entry, and an item drawn uniformly until the user's sorted row does not hold it; draws go by ``first + n``."""
    for n in numba.prange(len(entries)):
        user = np.searchsorted(indptr, np.int64(entries[n]), side="right") - 1
        users[n], positives[n] = user, indices[entries[n]]
        state = row_state(low, high, first + n)
        begin, end = indptr[user], indptr[user + 1]
        attempt = 0
        while True:
            item = below(state, attempt, num_items)
            attempt += 1
            a, b = begin, end
            while a < b:
                middle = (a + b) // 2
                if indices[middle] < item:
                    a = middle + 1
                else:
                    b = middle
            if a == end or indices[a] != item:
                negatives[n] = item
                break


def check_drawable(matrix: sparse.csr_matrix, train: Interactions) -> None:
    """Raises ValueError where there is no pair, or for a user who has every item and so no negative."""
    if matrix.nnz == 0:
        raise ValueError("there are no interactions to train on")
    counts = np.diff(matrix.indptr)
    if counts.max() >= train.num_items:
        full = train.user_ids.ids[counts.argmax()]
        raise ValueError(f"user {str(full)!r} has every one of the {train.num_items} items, so no negative can be drawn")


class Triples:
    """One epoch of BPR triples: as many as there are training pairs, one uniform negative each.

    ``balance="interactions"``: every pair once, in random order (RecBole, SELFRec, LightGCL). "users": users uniform with
    replacement, then one of their items (gusye1234/LightGCN-PyTorch@947ca2b, geon0325/LightGCNpp@a394f79). Negatives are
    rejected against the training items only; held-out items may be drawn.

    Raises:
        ValueError: no training pairs, or a user who has every item and so no negative.
    """

    def __init__(self, train: Interactions, batch_size: int, *, balance: Literal["interactions", "users"] = "interactions"):
        if batch_size < 1:
            raise ValueError(f"batch_size must be 1 or more, got {batch_size}")
        if balance not in ("interactions", "users"):
            raise ValueError(f"balance must be 'interactions' or 'users', got {balance!r}")
        matrix = pattern(train)
        check_drawable(matrix, train)
        self.indptr, self.indices = matrix.indptr.astype(np.int64), matrix.indices
        self.num_users, self.num_items = train.num_users, train.num_items
        self.batch_size, self.balance = batch_size, balance

    def __len__(self) -> int:
        """Steps of an epoch."""
        return -(-len(self.indices) // self.batch_size)

    def __call__(self, rng: torch.Generator) -> Iterator[Batch]:
        entries, key = self._entries(rng), halves(draw_key(rng))
        together = max(1, _AT_A_TIME // self.batch_size) * self.batch_size
        for start in range(0, len(entries), together):
            some = entries[start : start + together]
            users, positives, negatives = (np.empty(len(some), dtype=np.int64) for _ in range(3))
            _draw(self.indptr, self.indices, some, self.num_items, *key, start, users, positives, negatives)
            columns = [torch.from_numpy(c) for c in (users, positives + self.num_users, negatives + self.num_users)]
            for first in range(0, len(some), self.batch_size):
                yield Batch(*(c[first : first + self.batch_size] for c in columns))

    def _entries(self, rng: torch.Generator) -> np.ndarray:
        """Which pairs, as places in ``indices``."""
        total = len(self.indices)
        if self.balance == "interactions":
            return torch.randperm(total, generator=rng, dtype=torch.int32 if total < 2**31 else torch.int64).numpy()
        counts = np.diff(self.indptr)
        active = np.flatnonzero(counts)
        users = active[torch.randint(len(active), (total,), generator=rng).numpy()]
        place = (torch.rand(total, generator=rng, dtype=torch.float64).numpy() * counts[users]).astype(np.int64)
        return self.indptr[users] + place
