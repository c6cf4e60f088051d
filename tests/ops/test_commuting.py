"""Rows of H H^T: which entries stay, and which of those that tie at the limit."""

import itertools

import numba
import numpy as np
import pytest
import torch
from scipy import sparse, stats

from graphcl.ops import commuting, draw_key
from graphcl.ops.commuting import last_sorted, num_entries, strongest

# Ten nodes of one middle node: all 2 c_ij / (c_ii + c_jj) are 1. Two more of another, and one with nothing.
BLOCK = sparse.csr_matrix(np.repeat(np.eye(3, dtype=int)[:, :2], [10, 2, 1], axis=0))
KEYS = [draw_key(torch.Generator().manual_seed(seed)) for seed in range(3000)]


def kept(half, limit, key):
    """[n, n] of zeros and ones."""
    return (strongest(half, limit, key).toarray() > 0).astype(int)


def drawn(width: int, n: int = 40) -> sparse.csr_matrix:
    return sparse.csr_matrix(np.random.default_rng(width).integers(0, 3, (n, width)))


@pytest.mark.parametrize("width", [3, 30])
@pytest.mark.parametrize("limit", [1, 4, 39, 40, None])
def test_scores_are_the_largest_and_values_are_counts(width, limit):
    half = drawn(width)
    counts = (half @ half.T).toarray()
    found = strongest(half, limit, KEYS[0])
    assert found.dtype == np.int64
    assert found.has_canonical_format
    dense = found.toarray()
    np.testing.assert_array_equal(dense[dense > 0], counts[dense > 0])
    own = np.diag(counts)
    for i in range(40):
        score = np.array([2 * counts[i, j] / (own[i] + own[j]) if counts[i, j] else 0.0 for j in range(40)])
        best = np.sort(score[score > 0])[::-1][:limit]
        np.testing.assert_array_equal(np.sort(score[dense[i] > 0])[::-1], best)
    assert num_entries(half) == np.count_nonzero(counts)


def test_counts_beyond_single_precision():
    half = sparse.csr_matrix(np.array([[2**13 + 1, 0], [2**13, 1], [1, 2**20]]))
    np.testing.assert_array_equal(strongest(half, None, 0).toarray(), (half @ half.T).toarray())


def test_ties_are_drawn_uniformly():
    """Each of the ten is among the four of a row equally often, and each of the 210 sets is too."""
    sets = np.stack([kept(BLOCK, 4, key)[0, :10] for key in KEYS])
    assert (sets.sum(1) == 4).all()
    expected = len(KEYS) * 0.4
    spread = np.sqrt(len(KEYS) * 0.4 * 0.6)
    assert np.abs(sets.sum(0) - expected).max() < 4 * spread
    order = {chosen: n for n, chosen in enumerate(itertools.combinations(range(10), 4))}
    seen = np.bincount([order[tuple(row.nonzero()[0])] for row in sets], minlength=len(order))
    assert stats.chisquare(seen).pvalue > 1e-3


def test_rows_draw_for_themselves():
    """Two rows that tie alike share 4 * .4 = 1.6 of four on average."""
    shared = [int((kept(BLOCK, 4, key)[0] * kept(BLOCK, 4, key)[1]).sum()) for key in KEYS[:1000]]
    assert abs(np.mean(shared) - 1.6) < 4 * np.std(shared) / np.sqrt(len(shared))


def test_only_ties_at_the_limit_are_drawn():
    """The row of a node of two middles: itself and its like come first, whatever the key; one of eight others is drawn."""
    half = sparse.csr_matrix(np.array([[1, 1], [1, 1]] + [[1, 0]] * 8))
    rows = np.stack([kept(half, 3, key)[0] for key in KEYS[:800]])
    assert (rows[:, :2] == 1).all()
    assert (rows.sum(1) == 3).all()
    assert stats.chisquare(rows[:, 2:].sum(0)).pvalue > 1e-3


@pytest.mark.slow
def test_permuting_ids_permutes_the_distribution():
    order = np.random.default_rng(1).permutation(13)
    back = np.argsort(order)
    plain = sum(kept(BLOCK, 4, key) for key in KEYS)
    moved = sum(kept(BLOCK[order], 4, key) for key in KEYS)[back][:, back]
    assert np.array_equal(plain > 0, moved > 0)
    block = (slice(0, 10), slice(0, 10))
    deviation = np.abs(plain[block] - moved[block]) / np.sqrt(2 * len(KEYS) * 0.4 * 0.6)
    assert deviation.max() < 4.5  # the largest of a hundred
    np.testing.assert_array_equal(plain[10:], moved[10:])  # nothing ties at a limit that is not reached


@pytest.mark.slow  # compiles the kernels once more
def test_the_same_key_gives_the_same_whatever_the_parts_and_threads(monkeypatch):
    half = drawn(4, n=200)
    found = strongest(half, 5, KEYS[3])
    assert (strongest(half, 5, KEYS[3]) != found).nnz == 0
    assert (strongest(half, 5, KEYS[4]) != found).nnz > 0
    threads = numba.get_num_threads()
    try:
        numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
        assert (strongest(half, 5, KEYS[3]) != found).nnz == 0
    finally:
        numba.set_num_threads(threads)
    # Compiled anew, for numba takes constants as they are when it compiles.
    monkeypatch.setattr(commuting, "_PARTS", 7)
    for name in ("_sizes", "_fill"):
        monkeypatch.setattr(commuting, name, numba.njit(getattr(commuting, name).py_func))
    assert (strongest(half, 5, KEYS[3]) != found).nnz == 0


@pytest.mark.parametrize("limit", [1, 4, 13, 50])
def test_last_sorted_is_numpys_order(limit):
    for half in (BLOCK, drawn(3), drawn(30)):
        counts = (half @ half.T).toarray()
        own, n = np.diag(counts), len(counts)
        expected = np.zeros_like(counts)
        for i in range(n):
            score = np.array([2 * counts[i, j] / (own[i] + own[j]) if counts[i, j] else 0.0 for j in range(n)])
            chosen = np.argsort(score)[-limit:]
            expected[i, chosen] = counts[i, chosen]
        found = last_sorted(half, limit)
        np.testing.assert_array_equal(found.toarray(), expected)
        assert found.dtype == np.int64
        assert found.nnz == np.count_nonzero(expected)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (3, 2)])
def test_nothing(shape):
    half = sparse.csr_matrix(shape, dtype=np.int64)
    assert strongest(half, 2, 0).nnz == strongest(half, None, 0).nnz == last_sorted(half, 2).nnz == num_entries(half) == 0
    assert strongest(half, 2, 0).shape == last_sorted(half, 2).shape == (shape[0], shape[0])
