"""The k best of many scores for each user, from tiles of scores [items, users] that are read once.

Users are columns because products run faster that way round (see :mod:`graphcl.ops.exponential`). The best so far are a heap whose
root is the worst: lowest score, then highest item. Once it is full, nearly every score is below its root, and a group of users is
passed over after one vector comparison. Traffic: 4 bytes a score, from cache where a tile fits it.
"""

from __future__ import annotations

import numba
import numpy as np

_GROUP = 32  # users whose scores for one item are compared at a time: two cache lines


class Selection:
    """Takes tiles in order of items; then ``finish`` gives int64 items and float32 scores [n, k], best first.

    Among equal scores the lower item comes first. ``seen_indices[seen_indptr[u]:seen_indptr[u + 1]]``, sorted, is left out for
    user ``owners[i]``, so is -inf. Where fewer than k remain, the rest is item -1 with score -inf.
    """

    def __init__(self, owners: np.ndarray, k: int, seen_indptr: np.ndarray, seen_indices: np.ndarray):
        self.owners, self.seen_indices = owners, seen_indices
        self.ends = seen_indptr[owners + 1]
        self.at = seen_indptr[owners].copy()
        self.items = np.empty((len(owners), k), dtype=np.int64)
        self.best = np.empty((len(owners), k), dtype=np.float32)
        self.size = np.zeros(len(owners), dtype=np.int64)
        self.floor = np.full(len(owners), -np.inf, dtype=np.float32)  # what a score must exceed
        self.broken = np.full(len(owners), -1, dtype=np.int64)  # an item whose score is NaN, or -1

    def add(self, first: int, tile: np.ndarray) -> None:
        """Scores float32 [items, n] of the items from ``first`` on."""
        _add(
            tile, first, self.seen_indices, self.at, self.ends, self.items, self.best, self.size, self.floor, self.broken
        )  # fmt: skip

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        _sort(self.items, self.best, self.size)
        return self.items, self.best


@numba.njit(parallel=True, cache=True, boundscheck=False)
def _add(tile, first, seen, at, ends, items, best, size, floor, broken):  # type: ignore[no-untyped-def]
    num, k = items.shape
    for group in numba.prange((num + _GROUP - 1) // _GROUP):
        start, stop = group * _GROUP, min((group + 1) * _GROUP, num)
        for j in range(len(tile)):
            if stop - start == _GROUP:
                # Slices and a constant count, no branch: this becomes vector code.
                row, least, above = tile[j, start:stop], floor[start:stop], np.int32(0)
                for i in range(_GROUP):
                    above += np.int32(0) if row[i] <= least[i] else np.int32(1)  # counts NaN too
                if above == 0:
                    continue
            item = first + j
            for i in range(start, stop):
                score = tile[j, i]
                if score <= floor[i]:
                    continue
                if np.isnan(score):
                    broken[i] = item
                    continue
                while at[i] < ends[i] and seen[at[i]] < item:
                    at[i] += 1
                if at[i] < ends[i] and seen[at[i]] == item:
                    continue
                if size[i] < k:
                    size[i] += 1
                    _rise(best[i], items[i], size[i] - 1, score, item)
                else:
                    _sink(best[i], items[i], k, score, item)
                if size[i] == k:
                    floor[i] = best[i, 0]


@numba.njit(cache=True)
def _sort(items, best, size):  # type: ignore[no-untyped-def]
    for i in range(len(items)):
        heap, names = best[i], items[i]
        for last in range(size[i] - 1, 0, -1):  # worst to the back
            score, name = heap[last], names[last]
            heap[last], names[last] = heap[0], names[0]
            _sink(heap, names, last, score, name)
        for j in range(size[i], len(heap)):
            heap[j], names[j] = -np.inf, -1


@numba.njit(cache=True, inline="always")
def _worse(score, name, other_score, other_name):  # type: ignore[no-untyped-def]
    return score < other_score or (score == other_score and name > other_name)


@numba.njit(cache=True)
def _rise(heap, names, place, score, name):  # type: ignore[no-untyped-def]
    """Adds an entry at the last place and lets it rise to where it belongs."""
    while place > 0:
        parent = (place - 1) // 2
        if not _worse(score, name, heap[parent], names[parent]):
            break
        heap[place], names[place] = heap[parent], names[parent]
        place = parent
    heap[place], names[place] = score, name


@numba.njit(cache=True)
def _sink(heap, names, size, score, name):  # type: ignore[no-untyped-def]
    """Puts an entry in the root's stead and lets it sink to where it belongs."""
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and _worse(heap[child + 1], names[child + 1], heap[child], names[child]):
            child += 1
        if not _worse(heap[child], names[child], score, name):
            break
        heap[place], names[place] = heap[child], names[child]
        place = child
    heap[place], names[place] = score, name
