"""Negative cosine against a loop in float64, and who gets its gradient."""

import pytest
import torch
from torch.testing import assert_close

from graphcl.contracts import Pair
from graphcl.objectives import NegativeCosine
from tests.objectives.dense import Table, agree, csr, similarity, table

POSITIVES = torch.tensor([4, 0, 6, 4])


def slow(query, key, weights):
    terms = [w * similarity(q, key[j], True) for q, j, w in zip(query, POSITIVES.tolist(), weights, strict=True)]
    return -sum(terms) / sum(weights)


@pytest.mark.parametrize("weights", [None, torch.tensor([3, 1, 0, 2])], ids=["even", "weighted"])
def test_value_and_gradient(weights):
    query, key = table(4, 4, 0), table(7, 4, 1)
    expected = slow(query, key, [1] * 4 if weights is None else weights.tolist())
    pair = Pair(query, Table(key), POSITIVES, weights=weights)
    agree(NegativeCosine(stop_gradient=False), pair, expected, query, key)
    stopped = NegativeCosine()(pair)
    assert_close(stopped, expected)
    ours, theirs = torch.autograd.grad(stopped, (query, key), allow_unused=True)
    assert_close(ours, torch.autograd.grad(slow(query, key, [1] * 4 if weights is None else weights.tolist()), query)[0])
    assert theirs is None


def test_the_sign():
    """Identical inputs are at the minimum, -1; a release gives +1 there and minimises it."""
    x = table(3, 4, 2)
    assert NegativeCosine()(Pair(x, Table(5 * x), torch.arange(3))).item() == pytest.approx(-1)
    assert NegativeCosine()(Pair(x, Table(-x), torch.arange(3))).item() == pytest.approx(1)


def test_sparse_positives_are_refused():
    with pytest.raises(ValueError, match="NegativeCosine needs one positive a query"):
        NegativeCosine()(Pair(table(2, 4, 0), Table(table(3, 4, 1)), csr(torch.eye(2, 3))))
