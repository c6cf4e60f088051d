"""VICReg against loops over columns in float64, values and gradients."""

import pytest
import torch

from graphcl.contracts import Pair
from graphcl.objectives import VICReg
from tests.objectives.dense import Table, agree, csr, table

POSITIVES = torch.tensor([4, 0, 6, 4, 1, 2])


def slow(a, b, invariance, variance, covariance):
    """Rows one to one; the variance's eps is 1e-4."""
    n, d = a.shape
    loss = invariance * sum((x - y) ** 2 for p, q in zip(a, b, strict=True) for x, y in zip(p, q, strict=True)) / (n * d)
    for side in (a, b):
        centred = [side[:, i] - sum(side[:, i]) / n for i in range(d)]
        for i in range(d):
            deviation = (sum(centred[i] ** 2) / (n - 1) + 1e-4).sqrt()
            loss = loss + variance * (1 - deviation).clamp_min(0) / d
            for j in range(d):
                if i != j:
                    loss = loss + covariance * (sum(centred[i] * centred[j]) / (n - 1)) ** 2 / d
    return loss


@pytest.mark.parametrize("parts", [(25, 25, 1), (2, 0, 0), (0, 3, 0), (0, 0, 4)])
@pytest.mark.parametrize("times", [None, [3, 1, 2, 0, 1, 1]], ids=["even", "weighted"])
def test_value_and_gradient(parts, times):
    """A weight of 3 is the row written three times. Some deviations are above 1, some below."""
    query, key = table(6, 3, 0), table(7, 3, 1, scale=0.8)
    rows = [i for i, n in enumerate(times or [1] * 6) for _ in range(n)]
    expected = slow(query[rows], key[POSITIVES[rows]], *parts)
    pair = Pair(query, Table(key), POSITIVES, weights=None if times is None else torch.tensor(times))
    agree(VICReg(*parts), pair, expected, query, key)


def test_by_hand():
    """Equal views of constant rows: only the variance costs, (1 - sqrt(1e-4)) of either side; its gradient is finite."""
    x = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    loss = VICReg()(Pair(x, Table(x), torch.arange(4)))
    assert loss.item() == pytest.approx(25 * 2 * 0.99)
    assert torch.autograd.grad(loss, x)[0].isfinite().all()


def test_refusals():
    for name in ("invariance", "variance", "covariance"):
        with pytest.raises(ValueError, match=f"{name} is a weight and must be 0 or more, got -1"):
            VICReg(**{name: -1})
    with pytest.raises(ValueError, match="eps must be above 0, got 0"):
        VICReg(eps=0)
    with pytest.raises(ValueError, match="VICReg needs one positive a query"):
        VICReg()(Pair(table(2, 4, 0), Table(table(3, 4, 1)), csr(torch.eye(2, 3))))
    with pytest.raises(ValueError, match="at least two rows, got 1"):
        VICReg()(Pair(table(1, 4, 0), Table(table(3, 4, 1)), torch.tensor([2])))
