"""Entries of a product at a sparse pattern, against the dense product."""

import pytest
import torch

from graphcl.ops import pair_scores

POINTERS, COLUMNS = torch.tensor([0, 2, 2, 5]), torch.tensor([3, 0, 1, 1, 2])  # an empty row, and an entry twice


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_the_dense_product_in_value_and_gradient(dtype):
    rng = torch.Generator().manual_seed(0)
    q = torch.randn(3, 5, generator=rng, dtype=dtype, requires_grad=True)
    k = torch.randn(4, 5, generator=rng, dtype=dtype, requires_grad=True)
    weight = torch.randn(5, generator=rng, dtype=dtype)
    rows = torch.tensor([0, 0, 2, 2, 2])
    ours = pair_scores(q, k, POINTERS, COLUMNS)
    dense = (q @ k.T)[rows, COLUMNS]
    torch.testing.assert_close(ours, dense)
    got = torch.autograd.grad((ours * weight).sum(), (q, k))
    expected = torch.autograd.grad((dense * weight).sum(), (q, k))
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_no_pairs():
    q, k = torch.ones(2, 3, requires_grad=True), torch.ones(4, 3)
    found = pair_scores(q, k, torch.zeros(3, dtype=torch.int64), torch.empty(0, dtype=torch.int64))
    assert found.shape == (0,)
    found.sum().backward()
    assert not q.grad.any()
