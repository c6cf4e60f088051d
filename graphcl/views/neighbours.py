"""Positives from a graph: who reaches whom within some steps of a random walk."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from graphcl.graph import Graph

_BLOCK_ENTRIES = 2**22  # of a product that are held before they are cut: 48 MiB


def influence(graph: Graph, hops: int, limit: int | None = None) -> sparse.csr_matrix:  # [N, N] float32
    """``sum_(r = 1..hops) (D^-1 (A + I))^r``, of each row the ``limit`` largest entries; of equal ones the lower numbers.

    Every row sums to ``hops`` before it is cut, and is scaled to sum to it again. Powers are cut too, as they are formed, to four times
    ``limit``: uncut ones fill up (ten per cent of the entries of a dense graph after two hops).

    Raises:
        ValueError: hops or limit below 1.
    Source: gayanku/PAMC@f33a8b3 (``--influence``), where nothing is cut.
    """
    if hops < 1 or (limit is not None and limit < 1):
        raise ValueError(f"hops and limit must be 1 or more, got {hops} and {limit}")
    loops = graph.adj.to_scipy().astype(np.float64) + sparse.eye(graph.num_nodes, format="csr")
    walk = sparse.diags(1 / np.asarray(loops.sum(1)).ravel()) @ loops
    power, total = walk.tocsr(), walk.tocsr()
    for _ in range(hops - 1):
        power = power @ walk if limit is None else _cut_product(power, walk, 4 * limit)
        total = total + power
    cut = _cut(total.tocsr(), limit)
    sums = np.asarray(cut.sum(1)).ravel()
    return (sparse.diags(hops / sums) @ cut).tocsr().astype(np.float32)


def _cut_product(left: sparse.csr_matrix, right: sparse.csr_matrix, limit: int) -> sparse.csr_matrix:
    """``_cut(left @ right, limit)`` by blocks of rows, for a hub's neighbours all reach each other: h^2 entries before the cut."""
    most = abs(left).sign() @ np.diff(right.indptr)  # entries of a row, at most
    blocks = np.cumsum(most) // _BLOCK_ENTRIES
    ends = [*np.flatnonzero(np.diff(blocks)) + 1, left.shape[0]]
    return sparse.vstack(
        [_cut(left[first:end] @ right, limit) for first, end in zip([0, *ends], ends, strict=False)], format="csr"
    )


def _cut(matrix: sparse.csr_matrix, limit: int | None) -> sparse.csr_matrix:
    """Each row's largest entries."""
    matrix = matrix.tocsr()
    if limit is None or not matrix.nnz or int(np.diff(matrix.indptr).max()) <= limit:
        return matrix
    matrix.sort_indices()
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((matrix.indices, -matrix.data, rows))
    place = np.arange(len(rows)) - matrix.indptr[rows]
    kept = np.sort(order[place < limit])
    return sparse.csr_matrix((matrix.data[kept], (rows[kept], matrix.indices[kept])), shape=matrix.shape)
