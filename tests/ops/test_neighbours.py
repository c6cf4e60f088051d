"""Sampled neighbours: who is drawn how often, and products that keep their expectation."""

import numpy as np
import pytest
import torch
from scipy import sparse

from graphcl.ops import LowRank, Product, Sparse
from graphcl.ops.neighbours import joined, restricted, sampled_entries, sampled_neighbours

# rows with 5, 2 and no entries
PATTERN = sparse.csr_matrix(np.array([[1, 1, 0, 1, 1, 1], [0, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0]], dtype=np.float32))


def test_without_replacement_where_there_are_enough_with_where_not():
    for key in range(50):
        found = sampled_neighbours(PATTERN, 3, key)
        assert found.shape == (3, 3)
        assert len(set(found[0])) == 3
        assert set(found[0]) <= {0, 1, 3, 4, 5}
        assert set(found[1]) <= {1, 2}
        assert (found[2] == -1).all()


def test_every_neighbour_is_drawn_equally_often():
    counts = np.zeros(6)
    for key in range(4000):
        counts[sampled_neighbours(PATTERN, 3, key * 7919)[0]] += 1
    shares = counts[[0, 1, 3, 4, 5]] / 4000  # 3 of 5 each; a standard deviation is .0077
    np.testing.assert_allclose(shares, 0.6, atol=0.035)
    assert counts[2] == 0


def test_the_same_key_draws_the_same():
    assert (sampled_neighbours(PATTERN, 2, 5) == sampled_neighbours(PATTERN, 2, 5)).all()
    with pytest.raises(ValueError, match="1 or more, got 0"):
        sampled_neighbours(PATTERN, 0, 1)


def scaled() -> Sparse:
    op = Sparse.from_scipy(PATTERN.multiply(np.arange(1, 7)[None]).tocsr(), dtype=torch.float64)
    return op.scaled(torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64), torch.linspace(1, 2, 6, dtype=torch.float64))


@pytest.mark.slow
def test_a_product_of_sampled_entries_keeps_its_expectation():
    op = scaled()
    dense = torch.from_numpy(op.to_scipy().toarray())
    x = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rows = torch.tensor([2, 0, 1])
    total = torch.zeros(3, 2, dtype=torch.float64)
    for key in range(4000):
        some, columns = joined([sampled_entries(op, rows, 2, key * 104729)])
        assert len(columns) == len(set(columns.tolist()))
        total += some @ x[columns]
    torch.testing.assert_close(total / 4000, dense[rows] @ x, atol=0.25, rtol=0.05)


def test_all_entries_are_taken_where_they_are_few():
    op = scaled()
    dense = torch.from_numpy(op.to_scipy().toarray())
    x = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    some, columns = joined([sampled_entries(op, torch.tensor([1, 0]), 5, 3), sampled_entries(op, torch.tensor([0, 1]), 9, 4)])
    expected = (dense[[1, 0]] @ x + dense[[0, 1]] @ x) / 2
    torch.testing.assert_close(some @ x[columns], expected)


@pytest.mark.parametrize("chained", [False, True])
def test_restriction_reads_only_the_columns_it_reaches(chained):
    op = scaled()
    second = Sparse.from_scipy(sparse.random(6, 9, 0.4, format="csr", random_state=1), dtype=torch.float64)
    whole = Product(op, second) if chained else op
    x = torch.randn(whole.shape[1], 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    rows = torch.tensor([1, 2, 1])
    some, columns = restricted(whole, rows)
    torch.testing.assert_close(some @ x[columns], (whole @ x)[rows])
    (some @ x[columns]).sum().backward()
    untouched = torch.ones(whole.shape[1], dtype=torch.bool)
    untouched[columns] = False
    assert untouched.any()
    assert not x.grad[untouched].any()
    with pytest.raises(TypeError, match="LowRank"):
        restricted(LowRank(torch.ones(3, 1), torch.ones(4, 1)), rows)
