"""Barlow Twins against loops over columns in float64, values and gradients."""

import pytest
import torch

from graphcl.contracts import Pair
from graphcl.objectives import BarlowTwins
from tests.objectives.dense import Table, agree, csr, table

POSITIVES = torch.tensor([4, 0, 6, 4, 1, 2])


def slow(a, b, weight):
    """Rows one to one. Deviations and correlations both divide by n."""
    n, d = a.shape
    loss = 0.0
    for i in range(d):
        for j in range(d):
            x, y = a[:, i] - sum(a[:, i]) / n, b[:, j] - sum(b[:, j]) / n
            deviations = (sum(x * x) / n).sqrt() * (sum(y * y) / n).sqrt()
            c = sum(x * y) / n / deviations
            loss = loss + ((c - 1) ** 2 if i == j else weight * c**2)
    return loss


@pytest.mark.parametrize(("given", "used"), [(None, 1 / 3), (0.2, 0.2), (0.0, 0.0)])
@pytest.mark.parametrize("times", [None, [3, 1, 2, 0, 1, 1]], ids=["even", "weighted"])
def test_value_and_gradient(given, used, times):
    """A weight of 3 is the row written three times."""
    query, key = table(6, 3, 0), table(7, 3, 1)
    rows = [i for i, n in enumerate(times or [1] * 6) for _ in range(n)]
    expected = slow(query[rows], key[POSITIVES[rows]], used)
    pair = Pair(query, Table(key), POSITIVES, weights=None if times is None else torch.tensor(times))
    agree(BarlowTwins(given), pair, expected, query, key)


def test_scale_and_place_do_not_matter_and_small_embeddings_count_in_full():
    """An eps added to variances made correlations of embeddings of deviation 1e-3 a tenth of what they are."""
    query, key = table(6, 3, 2).detach(), table(6, 3, 3).detach()
    pair, small = (Pair(q, Table(key), torch.arange(6)) for q in (query, 1e-3 * query + 5))
    assert BarlowTwins()(small).item() == pytest.approx(BarlowTwins()(pair).item(), rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_constant_column_has_no_correlation_and_no_gradient(dtype):
    query, key = (table(50, 3, s).detach().to(dtype) for s in (4, 5))
    query[:, 1] = 1.7
    query.requires_grad_()
    loss = BarlowTwins()(Pair(query, Table(key), torch.arange(50)))
    (grad,) = torch.autograd.grad(loss, query)
    assert (grad[:, 1] == 0).all()
    assert (grad[:, 0] != 0).all()
    kept = [0, 2]
    c = torch.corrcoef(torch.cat([query.detach()[:, kept], key], 1).T)[:2, 2:]
    expected = 1 + (1 - c[0, 0]) ** 2 + (1 - c[1, 2]) ** 2 + (c[0, 1] ** 2 + c[0, 2] ** 2 + c[1, 0] ** 2 + c[1, 1] ** 2) / 3
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_refusals():
    with pytest.raises(ValueError, match=r"off_diagonal must be 0 or more, or None for 1/d, got -1"):
        BarlowTwins(-1)
    with pytest.raises(ValueError, match="eps must be above 0, got 0"):
        BarlowTwins(eps=0)
    with pytest.raises(ValueError, match="BarlowTwins needs one positive a query"):
        BarlowTwins()(Pair(table(2, 4, 0), Table(table(3, 4, 1)), csr(torch.eye(2, 3))))
    with pytest.raises(ValueError, match="at least two rows, got 1"):
        BarlowTwins()(Pair(table(1, 4, 0), Table(table(3, 4, 1)), torch.tensor([2])))
