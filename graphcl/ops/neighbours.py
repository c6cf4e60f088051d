"""A fixed number of neighbours of each row, drawn from a CSR pattern without a Python loop."""

from __future__ import annotations

import numba
import numpy as np
from scipy import sparse

from graphcl.ops.counter import column_bits, halves, row_state


def sampled_neighbours(pattern: sparse.csr_matrix, count: int, key: int) -> np.ndarray:  # [n, m] -> [n, count] int64
    """Without replacement where a row has ``count`` entries or more, else with; -1 throughout for a row without any."""
    if count < 1:
        raise ValueError(f"the number of neighbours must be 1 or more, got {count}")
    out = np.full((pattern.shape[0], count), -1, dtype=np.int64)
    _sample(pattern.indptr.astype(np.int64), pattern.indices, *halves(key), out)
    return out


@numba.njit(parallel=True, cache=True)
def _sample(indptr, indices, low, high, out):  # type: ignore[no-untyped-def]
    """Floyd's algorithm: the j-th draw is uniform among the first d - S + j + 1 places; one that is taken gives the last of these."""
    count = out.shape[1]
    for row in numba.prange(len(indptr) - 1):
        start, degree = indptr[row], indptr[row + 1] - indptr[row]
        if degree == 0:
            continue
        state = row_state(low, high, row)
        for j in range(count):
            last = degree if degree < count else degree - count + j + 1
            place = np.int64((np.uint64(column_bits(state, j)) * np.uint64(last)) >> np.uint64(32))
            if degree >= count:
                for before in range(j):
                    if out[row, before] == place:
                        place = last - 1
                        break
            out[row, j] = place
        for j in range(count):
            out[row, j] = indices[start + out[row, j]]
