"""DCL and DCLW against loops over anchors in float64, values and gradients."""

import math

import pytest
import torch

from graphcl.contracts import Pair
from graphcl.objectives import DCL
from tests.objectives.dense import Table, agree, csr, similarity, table

ONCE, TWICE = torch.tensor([4, 0, 6, 2, 5]), torch.tensor([4, 0, 4, 2, 4])
WEIGHTS = torch.tensor([3.0, 1.0, 2.0, 1.0, 1.0])


def slow(query, keys, ids, temperature, sigma=None, weights=None):
    """``keys`` row by row those of the positives."""
    n, weights = len(ids), [1.0] * len(ids) if weights is None else weights.tolist()
    near = [similarity(query[i], keys[i], True) for i in range(n)]
    # Detached: no gradient flows through a weight.
    pulls = [math.exp(s.item() / sigma) if sigma else 1.0 for s in near]
    mean = sum(w * p for w, p in zip(weights, pulls, strict=True)) / sum(weights)
    losses, total = [], 0.0
    for i in range(n):
        others = [j for j in range(n) if ids[j] != ids[i]]
        if not others:
            continue
        terms = [similarity(query[i], side[j], True) / temperature for j in others for side in (query, keys)]
        pull = 2 - pulls[i] / mean if sigma else 1.0
        losses.append(weights[i] * (sum(term.exp() for term in terms).log() - pull * near[i] / temperature))
        total += weights[i]
    return sum(losses) / total


@pytest.mark.parametrize("sigma", [None, 0.5])
@pytest.mark.parametrize("ids", [ONCE, TWICE], ids=["once", "twice"])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["even", "weighted"])
def test_value_and_gradient(sigma, ids, weights):
    query, key = table(5, 4, 0), table(7, 4, 1)
    expected = slow(query, key[ids], ids.tolist(), 0.3, sigma, weights)
    agree(DCL(0.3, sigma), Pair(query, Table(key), ids, weights=weights), expected, query, key)


def test_both_directions():
    query, key = table(5, 4, 2), table(7, 4, 3)
    ids = TWICE.tolist()
    expected = (slow(query, key[ids], ids, 0.2, 0.5) + slow(key[ids], query, ids, 0.2, 0.5)) / 2
    agree(DCL(0.2, 0.5, symmetric=True, tile_entries=20), Pair(query, Table(key), TWICE), expected, query, key)


def test_by_hand_the_positive_is_in_no_sum():
    """Two aligned, orthogonal pairs: -1 / t + log(2 exp(0)) each, below 0."""
    points = torch.eye(2, dtype=torch.float64, requires_grad=True)
    loss = DCL(0.5)(Pair(points, Table(points), torch.arange(2)))
    assert loss.item() == pytest.approx(math.log(2) - 2)


def test_nobody_to_compare_with():
    query, key = table(3, 4, 4), table(7, 4, 5)
    loss = DCL(sigma=0.5)(Pair(query, Table(key), torch.tensor([2, 2, 2])))
    assert loss.item() == 0
    assert all((g == 0).all() for g in torch.autograd.grad(loss, (query, key)))


def test_bad_settings():
    for settings in ({"temperature": 0}, {"sigma": -1.0}):
        with pytest.raises(ValueError, match=f"{next(iter(settings))} must be above 0, got"):
            DCL(**settings)
    with pytest.raises(ValueError, match="DCL needs one positive a query"):
        DCL()(Pair(table(2, 4, 0), Table(table(3, 4, 1)), csr(torch.eye(2, 3))))


def test_a_temperature_cannot_be_learned():
    """Half of its gradient would be missing."""
    with pytest.raises(ValueError, match="temperature must be a number, not a tensor"):
        DCL(torch.tensor(0.2, requires_grad=True))
