"""Sparse rows times matrices against dense float64 products."""

import numpy as np
import pytest
from scipy import sparse

from graphcl.ops import products


def matrix(rows: int, columns: int, seed: int) -> sparse.csr_matrix:
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(rows, columns)) * (rng.random((rows, columns)) < 0.3)
    dense[rows // 2] = 0
    return sparse.csr_matrix(dense.astype(np.float32))


@pytest.mark.parametrize("index", [np.int32, np.int64])
def test_equal_dense_products(index):
    left, first, second = matrix(7, 20, 0), matrix(20, 15, 1), matrix(15, 30, 2)
    left.indices, left.indptr = left.indices.astype(index), left.indptr.astype(index)
    a, b, c = (m.toarray().astype(np.float64) for m in (left, first, second))
    np.testing.assert_allclose(products.times_sparse(left, first), a @ b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(products.times_dense(left, first.toarray()), a @ b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(products.times_sparse_twice(left, first, second), a @ b @ c, rtol=1e-5, atol=1e-6)


def test_into_an_array_that_held_something():
    left, right = matrix(7, 20, 3), matrix(20, 15, 4)
    out = np.full((7, 15), 9, dtype=np.float32)
    assert products.times_sparse(left, right, out=out) is out
    np.testing.assert_allclose(out, (left @ right).toarray(), rtol=1e-5, atol=1e-6)


def test_no_rows():
    assert products.times_sparse(sparse.csr_matrix((0, 20)), matrix(20, 15, 4)).shape == (0, 15)
