"""Training batches for pairwise ranking."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numba
import numpy as np
import torch

from graphcl.contracts import Batch
from graphcl.interactions import Interactions
from graphcl.ops.counter import column_bits, draw_key, halves, row_state


@numba.njit(parallel=True, cache=True)
def _reject(indptr, indices, users, num_items, low, high, out):
    """out[n]: an item drawn uniformly until user n's sorted row does not hold it."""
    for n in numba.prange(len(users)):
        state = row_state(low, high, n)
        begin, end = indptr[users[n]], indptr[users[n] + 1]
        attempt = 0
        while True:
            item = (np.uint64(column_bits(state, attempt)) * np.uint64(num_items)) >> np.uint64(32)
            attempt += 1
            a, b = begin, end
            while a < b:
                middle = (a + b) // 2
                if np.uint64(indices[middle]) < item:
                    a = middle + 1
                else:
                    b = middle
            if a == end or np.uint64(indices[a]) != item:
                out[n] = item
                break


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
        matrix = train.matrix
        if matrix.nnz == 0:
            raise ValueError("there are no interactions to train on")
        counts = np.diff(matrix.indptr)
        if counts.max() >= train.num_items:
            full = train.user_ids.ids[counts.argmax()]
            raise ValueError(f"user {str(full)!r} has every one of the {train.num_items} items, so no negative can be drawn")
        self.indptr, self.indices = matrix.indptr.astype(np.int64), matrix.indices
        self.num_users, self.num_items = train.num_users, train.num_items
        self.batch_size, self.balance = batch_size, balance

    def __len__(self) -> int:
        """Steps of an epoch."""
        return -(-len(self.indices) // self.batch_size)

    def __call__(self, rng: torch.Generator) -> Iterator[Batch]:
        users, items = self._positives(rng)
        negatives = np.empty(len(users), dtype=np.int64)
        _reject(self.indptr, self.indices, users, self.num_items, *halves(draw_key(rng)), negatives)
        columns = [torch.from_numpy(c) for c in (users, items + self.num_users, negatives + self.num_users)]
        for start in range(0, len(users), self.batch_size):
            yield Batch(*(c[start : start + self.batch_size] for c in columns))

    def _positives(self, rng: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
        total = len(self.indices)
        counts = np.diff(self.indptr)
        if self.balance == "interactions":
            order = torch.randperm(total, generator=rng).numpy()
            users = np.repeat(np.arange(self.num_users), counts)[order]
            return users, self.indices[order].astype(np.int64)
        active = np.flatnonzero(counts)
        users = active[torch.randint(len(active), (total,), generator=rng).numpy()]
        place = (torch.rand(total, generator=rng, dtype=torch.float64).numpy() * counts[users]).astype(np.int64)
        return users, self.indices[self.indptr[users] + place].astype(np.int64)
