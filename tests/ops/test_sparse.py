"""Sparse operators against dense matrices."""

import gc
import weakref

import numba
import numpy as np
import pytest
import torch
from scipy import sparse

from graphcl.ops import Sparse, SparseRows, uniform, unit_rows
from graphcl.ops import sparse as sparse_module
from graphcl.testing import check_operator

# 6 x 6 and symmetric, with a node (4) that has no edge
PATTERN = np.array(
    [
        [0, 1, 0, 1, 0, 0],
        [1, 0, 1, 0, 0, 1],
        [0, 1, 0, 0, 0, 0],
        [1, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0],
        [0, 1, 0, 1, 0, 0],
    ]
)
LEFT = torch.tensor([0.3, 1, 2, -1, 4, 0.25], dtype=torch.float64)
RIGHT = torch.tensor([2, 0.1, -4, 1, 8, 0.5], dtype=torch.float64)


def parts(matrix: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, tuple[int, int]]:
    """Pointers, columns and shape, written down row by row."""
    col = [j for row in matrix for j in np.flatnonzero(row)]
    rowptr = np.concatenate([[0], np.cumsum([np.count_nonzero(row) for row in matrix])])
    return torch.tensor(rowptr), torch.tensor(col, dtype=torch.int32), matrix.shape


def pattern(matrix: np.ndarray) -> Sparse:
    ones = [torch.ones(size, dtype=torch.float64) for size in matrix.shape]
    return Sparse(*parts(matrix), left=ones[0], right=ones[1])


def double(matrix) -> torch.Tensor:
    return torch.as_tensor(np.asarray(matrix), dtype=torch.float64)


def scaled(matrix: np.ndarray, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    return left.double()[:, None] * double(matrix) * right.double()[None, :]


def test_pattern():
    check_operator(pattern(PATTERN), double(PATTERN))


def test_symmetric_pattern_is_its_own_transpose():
    op = Sparse(*parts(PATTERN), left=LEFT, right=LEFT, symmetric=True)
    assert op.T is op
    check_operator(op, scaled(PATTERN, LEFT, LEFT))


def test_symmetric_pattern_between_unequal_scales():
    """As LightGCN++ normalises: the pattern serves both directions, the scales change sides."""
    op = Sparse(*parts(PATTERN), left=LEFT, right=RIGHT, symmetric=True)
    check_operator(op, scaled(PATTERN, LEFT, RIGHT))
    assert op.T.col is op.col
    assert op.T.T is op


def test_rectangle_with_values_and_scales():
    matrix = np.array([[0, 2, -1, 0, 0.5], [0, 0, 0, 0, 0], [4, 0, 0, 1, 0], [1, 1, 1, 1, 1]])
    rowptr, col, shape = parts(matrix)
    left, right = double([1, 3, 0.3, -2]), double([2, 0.1, 1, 4, -1])
    values = double(matrix[matrix != 0])
    op = Sparse(rowptr, col, shape, values=values, left=left, right=right)
    dense = scaled(matrix, left, right)
    check_operator(op, dense)
    np.testing.assert_array_equal(op.to_scipy().toarray(), dense.numpy())
    np.testing.assert_array_equal(op.entries(), dense[torch.tensor(matrix) != 0])
    assert op.nnz == 10
    assert op.degrees().tolist() == [3, 0, 2, 5]


def test_values_of_a_symmetric_matrix():
    matrix = np.where(PATTERN, np.add.outer(np.arange(6), np.arange(6)), 0)
    rowptr, col, shape = parts(PATTERN)
    values = double(matrix[PATTERN > 0])
    check_operator(Sparse(rowptr, col, shape, values=values, left=LEFT, right=RIGHT, symmetric=True), scaled(matrix, LEFT, RIGHT))


def test_from_scipy_adds_repeats_and_leaves_the_caller_its_matrix():
    matrix = sparse.coo_matrix(([1.0, 2.0, 1.0, 0.5], ([0, 0, 2, 0], [1, 1, 0, 2])), shape=(3, 4))
    given = sparse.csr_matrix(([1.0, 2.0, 1.0], [2, 0, 2], [0, 3, 3]), shape=(2, 3))
    kept = given.copy()
    check_operator(Sparse.from_scipy(matrix, dtype=torch.float64), double([[0, 3, 0.5, 0], [0, 0, 0, 0], [1, 0, 0, 0]]))
    check_operator(Sparse.from_scipy(given, dtype=torch.float64), double([[2, 0, 2], [0, 0, 0]]))
    assert given.indices.tolist() == kept.indices.tolist()
    assert given.data.tolist() == kept.data.tolist()


def test_from_scipy_keeps_values_only_where_they_differ():
    assert Sparse.from_scipy(sparse.eye(3)).values is None
    assert Sparse.from_scipy(2 * sparse.eye(3)).values.tolist() == [2, 2, 2]


def test_a_matrix_and_its_transpose_are_no_cycle():
    """Dropped graphs, two a step with dropout, once filled 11 GB before Python looked for cycles."""
    op = Sparse.from_scipy(sparse.random_array((5, 7), density=0.4, random_state=np.random.default_rng(0), format="csr"))
    back, exact = op.T, op.to_scipy().toarray().T
    assert back.T is op
    assert op.T is back
    gone = weakref.ref(op)
    gc.disable()
    try:
        del op
        assert gone() is None
    finally:
        gc.enable()
    np.testing.assert_allclose(back.to_scipy().toarray(), exact)
    np.testing.assert_allclose(back.T.to_scipy().toarray(), exact.T)  # made anew


def test_scaled_shares_the_pattern_and_its_transpose():
    matrix = np.array([[0, 1, 1], [1, 0, 0]])
    op = pattern(matrix)
    transpose = op.T
    left, right = double([2, 0.3]), double([1, -1, 4])
    other = op.scaled(left, right)
    check_operator(other, scaled(matrix, left, right))
    assert other.T.col is transpose.col
    check_operator(op, double(matrix))


@pytest.mark.parametrize(("enabled", "unsorted"), [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("edges", [3, 2**20])
def test_adjoint_of_rows_by_kernel_and_by_scatter(monkeypatch, enabled, unsorted, edges):
    """The scatter is what other devices use."""
    monkeypatch.setattr(sparse_module, "_EDGES", edges)
    matrix = sparse.random_array((5, 7), density=0.5, random_state=np.random.default_rng(1), format="csr")
    op, ids = Sparse.from_scipy(matrix, dtype=torch.float64), torch.tensor([4, 0, 4])
    if unsorted:
        monkeypatch.setattr(Sparse, "_sorted", False)
    grad = torch.randn(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.set_grad_enabled(enabled):
        found = op.rows(ids).adjoint(grad)
    np.testing.assert_allclose(found.numpy(), matrix.toarray()[ids].T @ grad.numpy(), rtol=1e-12, atol=1e-14)


def test_too_many_entries_for_torch_are_refused(monkeypatch):
    """Row pointers wrapped around."""
    op = Sparse(*parts(PATTERN), left=LEFT, right=RIGHT)
    monkeypatch.setattr(sparse_module, "_MOST_ENTRIES", op.nnz - 1)
    with pytest.raises(ValueError, match=f"a matrix of {op.nnz} entries is too large for torch's CSR"):
        op._torch_csr(torch.float64)


def test_rows_of_rows_and_of_their_transpose():
    op = Sparse(*parts(PATTERN), left=LEFT, right=RIGHT)
    dense = scaled(PATTERN, LEFT, RIGHT)
    some = op.rows(torch.tensor([5, 1, 4, 1]))
    assert isinstance(some, SparseRows)
    assert some.whole is op  # nothing is copied
    check_operator(some, dense[[5, 1, 4, 1]])
    check_operator(some.rows(torch.tensor([1, 0])), dense[[1, 5]])
    check_operator(some.T, dense[[5, 1, 4, 1]].T)
    np.testing.assert_array_equal(some.to_scipy().toarray(), dense[[5, 1, 4, 1]].numpy())


def test_rows_counted_from_the_end():
    """``rows`` once read a negative row's pointer from the wrong place and returned a neighbour's edges."""
    op = Sparse(*parts(PATTERN), left=LEFT, right=RIGHT)
    np.testing.assert_array_equal(op.rows(torch.tensor([-3, -1])).to_scipy().toarray(), scaled(PATTERN, LEFT, RIGHT)[[3, 5]])
    for rows in ([6], [-7]):
        with pytest.raises(IndexError, match=r"0\.\.5"):
            op.rows(torch.tensor(rows))
    with pytest.raises(ValueError, match=r"row numbers are integers, got torch.bool; of a mask its nonzero\(\)"):
        op.rows(torch.ones(6, dtype=torch.bool))


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float16])
def test_tables_of_another_type_are_refused(dtype):
    """Whole numbers once came out cut off."""
    with pytest.raises(ValueError, match=f"float32 or float64 is needed, got {dtype}"):
        pattern(PATTERN) @ torch.ones(PATTERN.shape[1], 2).to(dtype)


def test_columns_need_no_order():
    """The backward of chosen rows looks columns up by bisection, which once took unordered ones for absent."""
    col = torch.tensor([3, 0, 2, 1, 0], dtype=torch.int32)
    op = Sparse(torch.tensor([0, 3, 5]), col, (2, 4), left=double([1, 1]), right=double([1, 1, 1, 1]))
    check_operator(op, double([[1, 0, 1, 1], [1, 1, 0, 0]]))


def test_no_edges():
    check_operator(pattern(np.zeros((5, 3))), torch.zeros(5, 3, dtype=torch.float64))


def test_second_derivative():
    """The backward was a constant for autograd, so a gradient of a gradient lacked this part."""
    op = Sparse(*parts(PATTERN), left=LEFT, right=RIGHT)
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    for which in (op, op.rows(torch.tensor([1, 3, 0]))):
        assert torch.autograd.gradgradcheck(lambda t, which=which: (which @ t) ** 3, (x,), fast_mode=True)


def test_float32_table_gives_float32():
    op = Sparse(*parts(PATTERN), left=LEFT.float(), right=RIGHT.float())
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    y = op @ x
    assert y.dtype == torch.float32
    torch.testing.assert_close(y.double(), scaled(PATTERN, LEFT, RIGHT) @ x.double(), rtol=1e-5, atol=1e-5)


def test_noisy_is_the_product_and_then_the_noise():
    op = Sparse(*parts(PATTERN), left=LEFT, right=RIGHT)
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    key, eps = 2**50 + 3, 0.3
    y = scaled(PATTERN, LEFT, RIGHT) @ x.detach()
    expected = y + eps * y.sign() * unit_rows(uniform(key, torch.arange(6), 4).double())
    found = op.noisy(x, eps, key)
    torch.testing.assert_close(found.detach(), expected, rtol=1e-12, atol=1e-12)
    assert found[4].tolist() == [0, 0, 0, 0]
    ids = torch.tensor([5, 4, 0, 5])
    torch.testing.assert_close(op.rows(ids).noisy(x, eps, key).detach(), expected[ids], rtol=1e-12, atol=1e-12)

    weight = torch.arange(24, dtype=torch.float64).view(6, 4)
    (noisy,) = torch.autograd.grad((found * weight).sum(), x)
    (clean,) = torch.autograd.grad(((op @ x) * weight).sum(), x)
    assert torch.equal(noisy, clean)


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two threads")
def test_results_do_not_depend_on_the_number_of_threads():
    rng = np.random.default_rng(0)
    users, items = rng.zipf(1.5, 8000) % 700, rng.zipf(1.5, 8000) % 500
    matrix = sparse.csr_matrix((rng.standard_normal(8000), (users, items)), shape=(700, 500))
    left = torch.from_numpy(rng.random(700))
    x, g = torch.from_numpy(rng.standard_normal((500, 4))), torch.from_numpy(rng.standard_normal((300, 4)))
    ids = torch.from_numpy(rng.integers(0, 700, 300))

    def run(threads: int) -> list[torch.Tensor]:
        numba.set_num_threads(threads)
        op = Sparse.from_scipy(matrix, dtype=torch.float64).scaled(
            left, torch.ones(500, dtype=torch.float64)
        )  # a new one: work is cut by threads once and kept
        t = x.clone().requires_grad_()
        some = op.rows(ids) @ t
        (gradient,) = torch.autograd.grad((some * g).sum(), t)
        plain = Sparse(op.rowptr, op.col, op.shape, left=left, right=op.right)
        return [op @ x, some.detach(), gradient, plain @ x, plain.noisy(x, 0.1, 7)]

    usual = numba.get_num_threads()
    try:
        results = [run(threads) for threads in (1, 2, numba.config.NUMBA_NUM_THREADS)]
    finally:
        numba.set_num_threads(usual)
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"rowptr": torch.tensor([0, 1])}, "pointers"),
        ({"rowptr": torch.tensor([], dtype=torch.int64)}, "pointers"),
        ({"rowptr": torch.tensor([0, 1, 3])}, "pointers"),
        ({"rowptr": torch.tensor([0, 3, 2])}, "pointers"),  # a kernel would read behind the end
        ({"rowptr": torch.tensor([1, 1, 2])}, "pointers"),
        ({"col": torch.tensor([0, 3], dtype=torch.int32)}, r"columns must lie in 0\.\.2, got 0\.\.3"),
        ({"col": torch.tensor([-1, 0], dtype=torch.int32)}, "columns must lie"),
        ({"values": torch.ones(3)}, "3 values for 2 edges"),
        ({"left": torch.ones(3)}, "scales"),
        ({"right": torch.ones(2)}, "scales"),
        ({"symmetric": True}, "square"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change, match):
    fields = {"rowptr": torch.tensor([0, 1, 2]), "col": torch.tensor([0, 2], dtype=torch.int32), "shape": (2, 3)}
    with pytest.raises(ValueError, match=match):
        Sparse(**{**fields, **change})


def test_to_the_device_where_it_is():
    op = Sparse(*parts(PATTERN))
    assert op.to("cpu") is op
    assert op.to(torch.device("cpu")) is op
