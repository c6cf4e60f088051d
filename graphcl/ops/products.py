"""A few sparse rows times a large matrix, straight into dense rows: what history scorers spend their time on.

scipy builds a sparse product first and spreads it afterwards, on one thread; here each thread adds into its own dense row.
"""

from __future__ import annotations

import numba
import numpy as np
from scipy import sparse


def times_sparse(left: sparse.csr_matrix, right: sparse.csr_matrix, out: np.ndarray | None = None) -> np.ndarray:
    """``left @ right`` [b, m] as a dense float32 array; into ``out`` if given."""
    out = np.empty((left.shape[0], right.shape[1]), dtype=np.float32) if out is None else out
    _times_sparse(*_parts(left), *_parts(right), out)
    return out


def times_dense(left: sparse.csr_matrix, right: np.ndarray) -> np.ndarray:
    """``left @ right`` [b, m], float32; reads only the rows of ``right`` that ``left`` names."""
    out = np.empty((left.shape[0], right.shape[1]), dtype=np.float32)
    _times_dense(*_parts(left), right, out)
    return out


def times_sparse_twice(left: sparse.csr_matrix, first: sparse.csr_matrix, second: sparse.csr_matrix) -> np.ndarray:
    """``left @ first @ second`` [b, m], dense float32. The product in between lives one row at a time."""
    out = np.empty((left.shape[0], second.shape[1]), dtype=np.float32)
    _times_sparse_twice(*_parts(left), *_parts(first), *_parts(second), out)
    return out


def _parts(matrix: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One signature, so each kernel is compiled once: scipy chooses the width of indices by the number of entries."""
    return (
        matrix.indptr.astype(np.int64, copy=False),
        matrix.indices.astype(np.int32, copy=False),
        matrix.data.astype(np.float32, copy=False),
    )


@numba.njit(cache=True)
def _add_row(weight, indptr, indices, data, row, total):  # type: ignore[no-untyped-def]
    for e in range(indptr[row], indptr[row + 1]):
        total[indices[e]] += weight * data[e]


@numba.njit(parallel=True, cache=True)
def _times_sparse(indptr, indices, data, right_indptr, right_indices, right_data, out):  # type: ignore[no-untyped-def]
    for r in numba.prange(out.shape[0]):
        total = out[r]
        total[:] = 0
        for e in range(indptr[r], indptr[r + 1]):
            _add_row(data[e], right_indptr, right_indices, right_data, indices[e], total)


@numba.njit(parallel=True, cache=True)
def _times_dense(indptr, indices, data, right, out):  # type: ignore[no-untyped-def]
    width = out.shape[1]
    for r in numba.prange(out.shape[0]):
        total = out[r]
        total[:] = 0
        for e in range(indptr[r], indptr[r + 1]):
            weight, row = data[e], right[indices[e]]
            for j in range(width):
                total[j] += weight * row[j]


@numba.njit(parallel=True, cache=True)
def _times_sparse_twice(  # type: ignore[no-untyped-def]
    indptr, indices, data, a_indptr, a_indices, a_data, b_indptr, b_indices, b_data, out
):
    for r in numba.prange(out.shape[0]):
        between = np.zeros(len(b_indptr) - 1, dtype=np.float32)
        for e in range(indptr[r], indptr[r + 1]):
            _add_row(data[e], a_indptr, a_indices, a_data, indices[e], between)
        total = out[r]
        total[:] = 0
        for v in range(len(between)):
            if between[v] != 0:
                _add_row(between[v], b_indptr, b_indices, b_data, v, total)
