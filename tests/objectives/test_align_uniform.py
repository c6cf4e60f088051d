"""Alignment and uniformity pair by pair in float64."""

import pytest
import torch
from torch.testing import assert_close

from graphcl.contracts import Pair
from graphcl.objectives import AlignUniform
from graphcl.objectives.align_uniform import alignment, uniformity
from tests.objectives.dense import Table, csr, table


def unit(row):
    length = row.square().sum().sqrt()
    return row / length if length > 0 else row


def slow_alignment(x, y, power):
    return sum((unit(a) - unit(b)).square().sum() ** (power / 2) for a, b in zip(x, y, strict=True)) / len(x)


def slow_uniformity(x, t):
    total = sum((-t * (unit(x[i]) - unit(x[j])).square().sum()).exp() for i in range(len(x)) for j in range(i))
    return (total / (len(x) * (len(x) - 1) / 2)).log()


@pytest.mark.parametrize("power", [1, 2, 3])
def test_alignment(power):
    x, y = table(6, 4, 0), table(6, 4, 1)
    got, expected = alignment(x, y, power), slow_alignment(x, y, power)
    assert_close(got, expected, rtol=1e-12, atol=0)
    assert_close(torch.autograd.grad(got, (x, y)), torch.autograd.grad(expected, (x, y)), rtol=1e-10, atol=1e-12)


def test_alignment_of_equal_rows_is_zero_with_a_gradient():
    x = table(3, 4, 2)
    loss = alignment(x, 3 * x.detach())
    assert loss.item() == pytest.approx(0, abs=1e-15)
    assert torch.autograd.grad(loss, x)[0].isfinite().all()


@pytest.mark.parametrize("tile_entries", [1, 14, 21, 10**6])
def test_uniformity(tile_entries):
    """Seven rows: tiles of one row, of two with one left over, of three, of all."""
    x = table(7, 4, 3)
    got, expected = uniformity(x, 2, tile_entries), slow_uniformity(x, 2)
    assert_close(got, expected, rtol=1e-12, atol=0)
    assert_close(torch.autograd.grad(got, x), torch.autograd.grad(expected, x), rtol=1e-10, atol=1e-12)


def test_uniformity_of_zero_rows():
    """A zero row is at distance 1 of the sphere. It was taken to be at sqrt(2), for unit length was assumed of it."""
    x = table(5, 4, 4)
    with torch.no_grad():
        x[1], x[4] = 0, 0
    assert_close(uniformity(x), slow_uniformity(x, 2), rtol=1e-12, atol=0)
    assert torch.autograd.grad(uniformity(x), x)[0].isfinite().all()


def test_uniformity_is_lower_the_evener():
    """Two opposite points: the mean over one pair is exp(-2 * 4)."""
    points = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    assert_close(uniformity(points), torch.tensor(-8.0, dtype=torch.float64))
    assert_close(uniformity(points.abs()), torch.tensor(0.0, dtype=torch.float64))
    with pytest.raises(ValueError, match="two rows"):
        uniformity(points[:1])


def test_of_a_pair():
    query, key = table(5, 4, 5), table(8, 4, 6)
    positives = torch.tensor([7, 0, 3, 2, 5])
    got = AlignUniform(gamma=1.5, t=3)(Pair(query, Table(key), positives))
    of = key[positives]
    expected = slow_alignment(query, of, 2) + 1.5 * (slow_uniformity(query, 3) + slow_uniformity(of, 3)) / 2
    assert_close(got, expected, rtol=1e-12, atol=0)
    grads, slow = torch.autograd.grad(got, (query, key)), torch.autograd.grad(expected, (query, key))
    assert_close(grads, slow, rtol=1e-10, atol=1e-12)


def test_repeats_are_aligned_as_often_and_spread_once():
    """A batch with a key twice once pushed the key away from itself; a query's weight was refused."""
    query, key = table(5, 4, 5), table(8, 4, 6)
    positives, times = torch.tensor([7, 0, 7, 2, 0]), torch.tensor([3, 1, 2, 0, 1])
    got = AlignUniform(gamma=1.5, t=3)(Pair(query, Table(key), positives, weights=times))
    rows = [i for i, n in enumerate(times.tolist()) for _ in range(n)]
    near = slow_alignment(query[rows], key[positives[rows]], 2)
    expected = near + 1.5 * (slow_uniformity(query, 3) + slow_uniformity(key[[0, 2, 7]], 3)) / 2
    assert_close(got, expected, rtol=1e-12, atol=0)
    grads, slow = torch.autograd.grad(got, (query, key)), torch.autograd.grad(expected, (query, key))
    assert_close(grads, slow, rtol=1e-10, atol=1e-12)


def test_refuses_what_it_would_not_count():
    query, key = table(2, 4, 7), table(3, 4, 8)
    with pytest.raises(ValueError, match="AlignUniform needs one positive a query, got a sparse"):
        AlignUniform()(Pair(query, Table(key), csr(torch.eye(2, 3))))
    with pytest.raises(ValueError, match="two rows, got 1"):
        AlignUniform()(Pair(query, Table(key), torch.tensor([1, 1])))
    with pytest.raises(ValueError, match="gamma is a weight and must be 0 or more, got -1"):
        AlignUniform(gamma=-1)
    with pytest.raises(ValueError, match="t must be above 0, got 0"):
        AlignUniform(t=0)
