"""A fixed number of neighbours of each row, drawn from a CSR pattern without a Python loop."""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphcl.ops.counter import below, halves, row_state
from graphcl.ops.operator import Mean, Operator, Product
from graphcl.ops.segment import pointers_of
from graphcl.ops.sparse import Sparse


def sampled_neighbours(pattern: sparse.csr_matrix, count: int, key: int) -> np.ndarray:  # [n, m] -> [n, count] int64
    """Without replacement where a row has ``count`` entries or more, else with; -1 throughout for a row without any."""
    if count < 1:
        raise ValueError(f"the number of neighbours must be 1 or more, got {count}")
    out = np.full((pattern.shape[0], count), -1, dtype=np.int64)
    _sample(pattern.indptr.astype(np.int64), pattern.indices, *halves(key), out)
    return out


@numba.njit(parallel=True, cache=True)
def _sample(indptr, indices, low, high, out):  # type: ignore[no-untyped-def]
    count = out.shape[1]
    for row in numba.prange(len(indptr) - 1):
        start, degree = indptr[row], indptr[row + 1] - indptr[row]
        if degree == 0:
            continue
        state = row_state(low, high, row)
        if degree >= count:
            _floyd(state, degree, out[row])
        else:
            for j in range(count):
                out[row, j] = below(state, j, degree)
        for j in range(count):
            out[row, j] = indices[start + out[row, j]]


@numba.njit(cache=True)
def _floyd(state, degree, out):  # type: ignore[no-untyped-def]
    """Different places of 0 .. degree - 1: draw j is uniform among the first degree - S + j + 1, and one that is taken gives the last
    of these."""
    count = len(out)
    for j in range(count):
        last = degree - count + j
        place = below(state, j, last + 1)
        for before in range(j):
            if out[before] == place:
                place = last
                break
        out[j] = place


Entries = tuple[Tensor, Tensor, Tensor]  # row pointers [n + 1], columns [E] int64, values [E]


def sampled_entries(op: Sparse, rows: Tensor, count: int, key: int) -> Entries:
    """At most ``count`` entries of each of some rows, without replacement, scaled so that a product keeps its expectation."""
    places = np.full((len(rows), count), -1, dtype=np.int64)
    # On CPU, whose draws all devices share.
    _sample_entries(op.rowptr.cpu().numpy(), rows.cpu().numpy(), *halves(key), places)
    there = places >= 0
    chosen = torch.from_numpy(places[there]).to(op.col.device)
    kept = torch.from_numpy(there.sum(1)).to(op.col.device)
    degrees = op.degrees()[rows]
    columns = op.col[chosen].long()
    values = torch.repeat_interleave(op.left[rows] * degrees / kept.clamp_min(1), kept) * op.right[columns]
    if op.values is not None:
        values = values * op.values[chosen]
    return pointers_of(kept), columns, values


def joined(parts: Sequence[Entries]) -> tuple[Operator, Tensor]:
    """The mean of several matrices over the columns that any of them has, and these columns [c]; all have the same rows."""
    columns, places = torch.cat([cols for _, cols, _ in parts]).unique(return_inverse=True)
    ops = []
    for (pointers, _, values), here in zip(parts, places.split([len(cols) for _, cols, _ in parts]), strict=True):
        ops.append(Sparse(pointers, here.int(), (len(pointers) - 1, len(columns)), values=values))
    return (ops[0] if len(ops) == 1 else Mean(*ops)), columns


def restricted(op: Operator, rows: Tensor) -> tuple[Operator, Tensor]:
    """Some rows of an operator over the columns they reach, and these columns; a chain is restricted factor by factor.

    Raises:
        TypeError: an operator that is neither sparse nor a chain of such.
    """
    if isinstance(op, Product):
        found = []
        for factor in op.factors:
            part, rows = restricted(factor, rows)
            found.append(part)
        return Product(*found), rows
    if not isinstance(op, Sparse):
        raise TypeError(f"a sparse operator or a chain of them is needed, got {type(op).__name__}")
    some = op.select(rows)
    columns, places = some.col.unique(return_inverse=True)
    columns = columns.long()
    shape = (len(rows), len(columns))
    return Sparse(some.rowptr, places.int(), shape, values=some.values, left=some.left, right=some.right[columns]), columns


@numba.njit(parallel=True, cache=True)
def _sample_entries(indptr, rows, low, high, out):  # type: ignore[no-untyped-def]
    count = out.shape[1]
    for number in numba.prange(len(rows)):
        row = rows[number]
        start, degree = indptr[row], indptr[row + 1] - indptr[row]
        if degree <= count:
            for j in range(degree):
                out[number, j] = start + j
        else:
            _floyd(row_state(low, high, row), degree, out[number])
            for j in range(count):
                out[number, j] += start
