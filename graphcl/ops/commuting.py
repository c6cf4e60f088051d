"""Rows of ``H H^T`` one at a time, of each the strongest entries: the product itself, [n, n], is never held.

Peak memory is one dense row of counts for each part of the rows that is being worked on, and the k n entries that are kept.
"""

from __future__ import annotations

import numba
import numpy as np
from scipy import sparse

from graphcl.ops.counter import column_bits, halves, row_state

_PARTS = 64  # of the rows; each has a row of counts of its own while it runs


def strongest(
    half: sparse.csr_matrix,  # [n, m] path counts from the start to the middle
    limit: int | None,  # entries kept of each row; None: all
    key: int,  # ties at the limit are broken at random by it
) -> sparse.csr_matrix:  # [n, n] int64 counts, columns sorted
    """Path counts ``(H H^T)_ij``, of each row the ``limit`` largest by ``2 c_ij / (c_ii + c_jj)`` (PathSim); the row itself competes.

    Of entries that tie at the limit a uniformly drawn set stays, drawn for each row anew.
    """
    half = half.tocsr().astype(np.int64)
    other = half.T.tocsr()
    n = half.shape[0]
    own = np.asarray(half.multiply(half).sum(axis=1)).ravel().astype(np.int64)
    h, t = ((m.indptr.astype(np.int64), m.indices, m.data) for m in (half, other))
    widest = n if limit is None else min(limit, n)
    sizes = _sizes(*h[:2], *t[:2], n, widest)
    pointers = np.concatenate([[0], np.cumsum(sizes)])
    columns, counts = np.empty(pointers[-1], dtype=np.int32), np.empty(pointers[-1], dtype=np.int64)
    _fill(*h, *t, own, widest, *halves(key), pointers, columns, counts)
    found = sparse.csr_matrix((counts, columns, pointers), shape=(n, n))
    found.has_sorted_indices = True
    return found


def num_entries(half: sparse.csr_matrix) -> int:
    """Non-zeros of ``H H^T``."""
    half, other, n = half.tocsr(), half.T.tocsr(), half.shape[0]
    return int(_sizes(half.indptr.astype(np.int64), half.indices, other.indptr.astype(np.int64), other.indices, n, n).sum())


def last_sorted(half: sparse.csr_matrix, limit: int) -> sparse.csr_matrix:
    """As ``strongest``, but of entries that tie at the limit those stay that ``numpy.argsort`` of the whole row puts last: which ones
    that is follows the order of ids, and the version and processor that numpy runs on."""
    half = half.tocsr().astype(np.int64)
    other, own = half.T.tocsr(), np.asarray(half.multiply(half).sum(axis=1)).ravel()
    rows = []
    for number in range(half.shape[0]):
        row = (half[number] @ other).tocsr()
        score = np.zeros(half.shape[0])
        score[row.indices] = 2.0 * row.data / (own[number] + own[row.indices])
        keep = np.zeros(half.shape[0], dtype=bool)
        keep[np.argsort(score)[-limit:]] = True
        row.data *= keep[row.indices]
        row.eliminate_zeros()
        row.sort_indices()
        rows.append(row)
    return sparse.vstack(rows, format="csr") if rows else half @ other


@numba.njit(parallel=True, cache=True)
def _sizes(indptr, indices, t_indptr, t_indices, n, widest):  # type: ignore[no-untyped-def]
    """Entries of each row of the product, at most ``widest``."""
    sizes = np.zeros(n, dtype=np.int64)
    for part in numba.prange(_PARTS):
        seen = np.full(n, -1, dtype=np.int64)
        for row in range(part * n // _PARTS, (part + 1) * n // _PARTS):
            size = 0
            for a in range(indptr[row], indptr[row + 1]):
                for b in range(t_indptr[indices[a]], t_indptr[indices[a] + 1]):
                    if seen[t_indices[b]] != row:
                        seen[t_indices[b]] = row
                        size += 1
            sizes[row] = min(size, widest)
    return sizes


@numba.njit(parallel=True, cache=True)
def _fill(  # type: ignore[no-untyped-def]
    indptr, indices, data, t_indptr, t_indices, t_data, own, widest, low, high, pointers, columns, counts
):
    n = len(indptr) - 1
    for part in numba.prange(_PARTS):
        count = np.zeros(n, dtype=np.int64)
        touched = np.empty(n, dtype=np.int32)
        for row in range(part * n // _PARTS, (part + 1) * n // _PARTS):
            size = 0
            for a in range(indptr[row], indptr[row + 1]):
                for b in range(t_indptr[indices[a]], t_indptr[indices[a] + 1]):
                    column = t_indices[b]
                    if count[column] == 0:
                        touched[size] = column
                        size += 1
                    count[column] += data[a] * t_data[b]
            chosen = touched[:size]
            if size > widest:
                state = row_state(low, high, row)
                bits = np.empty(size, dtype=np.uint32)
                score = np.empty(size, dtype=np.float64)
                for place in range(size):
                    bits[place] = column_bits(state, chosen[place])
                shuffled = chosen[np.argsort(bits)]
                for place in range(size):
                    column = shuffled[place]
                    score[place] = -2.0 * count[column] / (own[row] + own[column])
                chosen = shuffled[np.argsort(score, kind="mergesort")[:widest]]
            chosen = np.sort(chosen)
            start = pointers[row]
            for place in range(len(chosen)):
                columns[start + place] = chosen[place]
                counts[start + place] = count[chosen[place]]
            for place in range(size):
                count[touched[place]] = 0
