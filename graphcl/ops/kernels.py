"""CPU kernels of the sparse product, compiled by numba and cached on disk.

    y[i] = left[i] * sum_{e in row i} values[e] * right[col[e]] * x[col[e]]

Traffic per product: 4 bytes an edge for ``col``, one row of x an edge (mostly from cache when nodes are ordered by degree),
one write of y. The width is a compile-time constant, so that a row's sum stays in registers. Rows are handed out in
chunks of equal work; each row is summed by one thread in a fixed order, so results do not depend on the number of threads.

With noise, the finished row is moved before it is written, which saves two passes over y:

    y[i] += eps * sign(y[i]) * u / |u|,   u[k] = uniform(key, i, k)

There products are not fused with additions: code from numba's cache fuses others than code just compiled, so the process that compiles
would round otherwise than those that load.
"""

from __future__ import annotations

from functools import lru_cache

import numba
import numpy as np

from graphcl.ops.counter import UNIT, column_bits, row_state

_FAST = {"contract", "nsz", "reassoc", "arcp"}


@lru_cache(maxsize=64)
def product(width: int, has_values: bool, has_noise: bool, has_ids: bool):
    """The kernel for ``x`` of ``width`` columns. With ``has_ids`` only the rows ``ids`` are made, as y's rows 0, 1, ..."""

    @numba.njit(parallel=True, fastmath=_FAST - {"contract"} if has_noise else _FAST, cache=True, boundscheck=False)
    def kernel(rowptr, col, values, left, right, ids, chunks, x, y, eps, low, high):
        for chunk in numba.prange(len(chunks) - 1):
            total = np.empty(width, x.dtype)
            draw = np.empty(width, x.dtype)
            for place in range(chunks[chunk], chunks[chunk + 1]):
                row = ids[place] if has_ids else np.int64(place)
                for k in range(width):
                    total[k] = 0
                for edge in range(rowptr[row], rowptr[row + 1]):
                    j = col[edge]
                    scale = right[j]
                    if has_values:
                        scale *= values[edge]
                    for k in range(width):
                        total[k] += scale * x[j, k]
                scale = left[row]
                if has_noise:
                    state = row_state(low, high, row)
                    square = x.dtype.type(0)
                    for k in range(width):
                        u = np.float32(column_bits(state, k) >> np.uint32(8)) * np.float32(UNIT)
                        draw[k] = u
                        square += draw[k] * draw[k]
                    length = x.dtype.type(eps / max(np.sqrt(square), 1e-12))  # in float64 the next loop would take twice as long
                    for k in range(width):
                        value = scale * total[k]
                        y[place, k] = value + length * draw[k] * np.sign(value)
                else:
                    for k in range(width):
                        y[place, k] = scale * total[k]

    return kernel


@lru_cache(maxsize=64)
def rows_adjoint(width: int, has_values: bool):
    """The transpose of the product of some rows: out[j] += right[j] * values[e] * left[row] * g[place] for its edges e.

    Each thread owns a range of columns and finds its part of a row by bisection, as columns are sorted: no locks, no order to
    depend on. Only edges of the chosen rows are read, which for a batch are a small share of all.
    """

    @numba.njit(parallel=True, fastmath=_FAST, cache=True, boundscheck=False)
    def kernel(rowptr, col, values, left, right, ids, bounds, g, out):
        for part in numba.prange(len(bounds) - 1):
            first, stop = bounds[part], bounds[part + 1]
            for j in range(first, stop):
                for k in range(width):
                    out[j, k] = 0
            for place in range(len(ids)):
                row = ids[place]
                end = rowptr[row + 1]
                edge = _lower_bound(col, rowptr[row], end, first)
                while edge < end and col[edge] < stop:
                    j = col[edge]
                    scale = left[row] * right[j]
                    if has_values:
                        scale *= values[edge]
                    for k in range(width):
                        out[j, k] += scale * g[place, k]
                    edge += 1

    return kernel


@numba.njit(cache=True, inline="always")
def _lower_bound(col, begin, end, value):
    while begin < end:
        middle = (begin + end) // 2
        if col[middle] < value:
            begin = middle + 1
        else:
            end = middle
    return begin


@numba.njit(cache=True)
def scatter_add(rows, values, out):
    """out[rows[n]] += values[n]. One thread, for repeats must add up in a fixed order; a batch is small."""
    for n in range(len(rows)):
        r = rows[n]
        for k in range(values.shape[1]):
            out[r, k] += values[n, k]


def equal_chunks(
    rowptr: np.ndarray,  # [n + 1] or any running total of work that starts at 0
    num_chunks: int,
) -> np.ndarray:
    """Row boundaries of parts with about the same number of edges and rows."""
    num_rows = len(rowptr) - 1
    work = rowptr + np.arange(num_rows + 1)  # an empty row costs a write
    targets = np.linspace(0, work[-1], num_chunks + 1)
    bounds = np.searchsorted(work, targets, side="left")
    bounds[0], bounds[-1] = 0, num_rows
    return np.unique(bounds).astype(np.int64)
