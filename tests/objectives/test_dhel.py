"""DHEL against loops over anchors in float64, values and gradients."""

import math

import pytest
import torch

from graphcl.contracts import Pair
from graphcl.objectives import DHEL
from tests.objectives.dense import Table, agree, csr, similarity, table

IDS = {"once": torch.tensor([4, 0, 6, 2, 5]), "twice": torch.tensor([4, 0, 4, 2, 4])}


def slow(query, key, positives, temperature, weights):
    ids, keys = positives.tolist(), key[positives]
    losses = []
    for i in range(len(ids)):
        others = [j for j in range(len(ids)) if ids[j] != ids[i]]
        ours = sum((similarity(query[i], query[j], True) / temperature).exp() for j in others)
        theirs = sum((similarity(keys[i], keys[j], True) / temperature).exp() for j in others)
        losses.append((ours * theirs).log() - similarity(query[i], keys[i], True) / temperature)
    return sum(w * x for w, x in zip(weights, losses, strict=True)) / sum(weights)


@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize("weights", [None, torch.tensor([3, 1, 2, 0, 1])], ids=["even", "weighted"])
@pytest.mark.parametrize("tile_entries", [1, 2**20])
def test_value_and_gradient(ids, weights, tile_entries):
    query, key, positives = table(5, 4, 0), table(7, 4, 1), IDS[ids]
    expected = slow(query, key, positives, 0.3, [1] * 5 if weights is None else weights.tolist())
    agree(DHEL(0.3, tile_entries), Pair(query, Table(key), positives, weights=weights), expected, query, key)


def test_by_hand():
    """Two aligned, opposite pairs: -1 / t, and -1 / t for the one negative of either view."""
    points = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    pair = Pair(points, Table(points), torch.arange(2))
    assert DHEL(0.5)(pair).item() == pytest.approx(-6)


def test_views_do_not_push_each_other():
    """Moving all keys of a view by one rotation changes the loss by the positives alone."""
    query, key = table(4, 3, 2), table(4, 3, 3)
    turn, _ = torch.linalg.qr(table(3, 3, 4).detach())
    with torch.no_grad():
        pair, turned = (Pair(query, Table(k), torch.arange(4)) for k in (key, key @ turn))
        near, far = (torch.nn.functional.cosine_similarity(query, k).mean() for k in (key, key @ turn))
        assert (DHEL(0.2)(turned) - DHEL(0.2)(pair)).item() == pytest.approx((near - far).item() / 0.2)


def test_sums_that_overflow_when_multiplied():
    """float32 ends at exp(88.7); here either sum is exp(50)."""
    points = torch.ones(2, 2)
    assert DHEL(0.02)(Pair(points, Table(points), torch.arange(2))).item() == pytest.approx(100 - 50, rel=1e-5)


def test_refusals():
    with pytest.raises(ValueError, match="temperature must be above 0, got 0"):
        DHEL(0)
    with pytest.raises(ValueError, match="DHEL needs one positive a query"):
        DHEL()(Pair(table(2, 4, 0), Table(table(3, 4, 1)), csr(torch.eye(2, 3))))
    query, key = table(1, 4, 0), table(3, 4, 1)
    assert math.isclose(DHEL()(Pair(query, Table(key), torch.tensor([1]))).item(), 0)
