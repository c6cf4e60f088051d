"""Low-rank operators, products and means, of each other too."""

import pytest
import torch
from scipy import sparse

from graphcl.ops import LowRank, Mean, Operator, Product, Sparse
from graphcl.testing import check_operator

RNG = torch.Generator().manual_seed(0)


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=RNG, dtype=torch.float64)


LEFT, RIGHT, OTHER = draw(6, 2), draw(5, 2), draw(5, 3)
# Row 2 and column 0 are empty.
TABLE = torch.tensor(
    [[0, 1, 0, 2, 0], [0, 0, 3, 0, 1], [0, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 4, 0], [0, 2, 0, 0, 1]]
).double()


def sparse_table() -> Sparse:
    return Sparse.from_scipy(sparse.csr_matrix(TABLE.numpy()), dtype=torch.float64)


def test_low_rank():
    check_operator(LowRank(LEFT, RIGHT), LEFT @ RIGHT.T)


def test_a_gradient_reaches_the_factors_of_a_low_rank_operator():
    left, right, x = (t.clone().requires_grad_() for t in (LEFT, RIGHT, draw(5, 4)))
    assert torch.autograd.gradcheck(lambda a, b, t: LowRank(a, b) @ t, (left, right, x))


def test_product():
    last = LowRank(OTHER, draw(4, 3))
    op = Product(sparse_table(), last)
    check_operator(op, TABLE @ (last.left @ last.right.T))
    check_operator(Product(last.T, sparse_table().T, sparse_table()), (last.right @ last.left.T) @ TABLE.T @ TABLE)
    check_operator(Product(sparse_table()), TABLE)


def test_a_product_is_applied_from_the_right():
    """Never multiplied out: 3 nodes of a thin middle layer are all that a wide product holds."""
    wide, thin = LowRank(draw(40, 1), draw(3, 1)), LowRank(draw(3, 1), draw(50, 1))
    seen = []

    class Watched:
        shape = wide.shape

        def __matmul__(self, x):
            seen.append(tuple(x.shape))
            return wide @ x

    _ = Product(Watched(), thin) @ draw(50, 4)
    assert seen == [(3, 4)]


def test_mean():
    low = LowRank(LEFT, RIGHT)
    check_operator(Mean(sparse_table(), low, low), (TABLE + 2 * LEFT @ RIGHT.T) / 3)
    check_operator(Mean(low), LEFT @ RIGHT.T)


def test_mean_of_products():
    hop = Product(sparse_table().T, sparse_table())
    check_operator(Mean(hop, LowRank(RIGHT, RIGHT)), (TABLE.T @ TABLE + RIGHT @ RIGHT.T) / 2)


def test_all_of_them_are_operators():
    for op in (
        sparse_table(),
        sparse_table().rows(torch.tensor([1])),
        LowRank(LEFT, RIGHT),
        Product(sparse_table()),
        Mean(sparse_table()),
    ):
        assert isinstance(op, Operator)


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="same rank"):
        LowRank(LEFT, OTHER)
    with pytest.raises(ValueError, match="do not chain"):
        Product(sparse_table(), sparse_table())
    with pytest.raises(ValueError, match="at least one"):
        Product()
    with pytest.raises(ValueError, match="at least one"):
        Mean()
    with pytest.raises(ValueError, match="one shape"):
        Mean(sparse_table(), sparse_table().T)
