"""The compiled kernels against loops."""

import itertools

import numpy as np
import pytest

from graphcl.ops import kernels
from graphcl.ops.counter import halves
from tests.ops.test_counter import by_hand

# 5 x 6, rows 1 and 4 empty, column 5 unused
ROWPTR = np.array([0, 3, 3, 4, 8, 8])
COL = np.array([0, 2, 4, 3, 0, 1, 2, 3], dtype=np.int32)
VALUES = np.array([2, -1, 0.5, 4, 1, 3, -2, 0.25])
LEFT = np.array([1, 2, 0.5, -1, 3])
RIGHT = np.array([0.5, 1, 2, -2, 1, 8])
KEY = 2**40 + 9


def _reference(values, ids, x, eps):
    out = np.zeros((len(ids), x.shape[1]))
    for place, row in enumerate(ids):
        for edge in range(ROWPTR[row], ROWPTR[row + 1]):
            weight = LEFT[row] * RIGHT[COL[edge]] * (1 if values is None else values[edge])
            for k in range(x.shape[1]):
                out[place, k] += weight * x[COL[edge], k]
        u = np.array([by_hand(KEY, int(row), k) for k in range(x.shape[1])])
        out[place] += eps * np.sign(out[place]) * u / np.sqrt((u**2).sum())
    return out


def _run(values, ids, x, eps, chunks):
    kernel = kernels.product(x.shape[1], values is not None, eps != 0, ids is not None)
    count = len(LEFT) if ids is None else len(ids)
    y = np.full((count, x.shape[1]), np.nan)
    numbers = np.empty(0, dtype=np.int64) if ids is None else ids
    kernel(ROWPTR, COL, LEFT if values is None else values, LEFT, RIGHT, numbers, chunks, x, y, np.float64(eps), *halves(KEY))
    return y


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((6, 4))


@pytest.mark.parametrize("ids", [None, np.array([3, 1, 0, 3])])
@pytest.mark.parametrize(("values", "eps"), [(None, 0.0), (VALUES, 0.0), (None, 0.25)])
def test_product(values, eps, ids, x):
    chosen = np.arange(5) if ids is None else ids
    expected = _reference(values, chosen, x, eps)
    for chunks in (np.array([0, len(chosen)]), np.array([0, 1, 2, len(chosen)])):
        np.testing.assert_allclose(_run(values, ids, x, eps, chunks), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("values", [None, VALUES])
def test_adjoint_of_chosen_rows(values, x):
    ids = np.array([3, 1, 0, 3])
    g = np.random.default_rng(1).standard_normal((4, 4))
    expected = np.zeros((6, 4))
    for place, row in enumerate(ids):
        for edge in range(ROWPTR[row], ROWPTR[row + 1]):
            expected[COL[edge]] += LEFT[row] * RIGHT[COL[edge]] * (1 if values is None else values[edge]) * g[place]
    kernel = kernels.rows_adjoint(4, values is not None)
    for bounds in (np.array([0, 6]), np.array([0, 1, 1, 3, 6])):
        out = np.full((6, 4), np.nan)
        kernel(ROWPTR, COL, LEFT if values is None else values, LEFT, RIGHT, ids, bounds, g, out)
        np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-13)


def test_scatter_adds_repeats():
    values = np.random.default_rng(2).standard_normal((4, 4))
    out = np.ones((3, 4))
    kernels.scatter_add(np.array([2, 0, 2, 2]), values, out)
    np.testing.assert_allclose(out, np.stack([1 + values[0 + 1], np.ones(4), 1 + values[0] + values[2] + values[3]]))


@pytest.mark.parametrize("num_chunks", [1, 2, 7, 64])
def test_chunks_cover_every_row_once_with_about_equal_work(num_chunks):
    rng = np.random.default_rng(3)
    degrees = np.sort(rng.zipf(1.6, 500).clip(max=200))[::-1]
    degrees[-50:] = 0
    rowptr = np.concatenate([[0], degrees.cumsum()])
    bounds = kernels.equal_chunks(rowptr, num_chunks)
    assert bounds[0] == 0
    assert bounds[-1] == 500
    assert (np.diff(bounds) > 0).all()
    work = np.array([(degrees[a:b] + 1).sum() for a, b in itertools.pairwise(bounds)])
    assert work.max() <= (rowptr[-1] + 500) / num_chunks + degrees.max() + 1


def test_chunks_of_nothing():
    assert kernels.equal_chunks(np.array([0]), 4).tolist() == [0]
    assert kernels.equal_chunks(np.array([0, 0, 0]), 1).tolist() == [0, 2]
