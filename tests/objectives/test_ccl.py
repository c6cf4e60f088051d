"""CCL against loops in float64, values and gradients."""

import pytest
import torch

from graphcl.contracts import Pair
from graphcl.objectives import CCL
from tests.objectives.dense import Table, agree, csr, similarity, table

IDS = {"once": torch.tensor([4, 0, 6, 2, 5]), "twice": torch.tensor([4, 0, 4, 2, 4])}


def slow(query, key, positives, among, margin, weight, weights):
    ids, losses = positives.tolist(), []
    for i, own in enumerate(ids):
        others = [j for j in (ids if among == "batch" else range(len(key))) if j != own]
        hinges = [(similarity(query[i], key[j], True) - margin).clamp_min(0) for j in others]
        losses.append(1 - similarity(query[i], key[own], True) + weight * sum(hinges) / len(hinges))
    return sum(w * x for w, x in zip(weights, losses, strict=True)) / sum(weights)


@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize("among", ["batch", "all"])
@pytest.mark.parametrize("weights", [None, torch.tensor([3, 1, 2, 0, 1])], ids=["even", "weighted"])
@pytest.mark.parametrize("tile_entries", [1, 16, 2**20])
def test_value_and_gradient(ids, among, weights, tile_entries):
    query, key, positives = table(5, 4, 0), table(7, 4, 1), IDS[ids]
    expected = slow(query, key, positives, among, 0.1, 7.0, [1] * 5 if weights is None else weights.tolist())
    pair = Pair(query, Table(key), positives, weights=weights)
    agree(CCL(0.1, 7.0, among, tile_entries), pair, expected, query, key)
    assert CCL(among=among).reads_all is (among == "all")


def test_by_hand():
    """Cosines 1 and .6 with margin .5: no positive term, a hinge of .1 times 10. Below the margin nothing pulls."""
    points = torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64, requires_grad=True)
    pair = Pair(points, Table(points), torch.arange(2))
    assert CCL()(pair).item() == pytest.approx(1.0)
    (grad,) = torch.autograd.grad(CCL(margin=0.7)(pair), points)
    assert grad.abs().max() < 1e-12


def test_alone_there_is_the_positive_term():
    query, key = table(2, 4, 2), table(3, 4, 3)
    expected = sum(1 - similarity(q, key[1], True) for q in query) / 2
    agree(CCL(), Pair(query, Table(key), torch.tensor([1, 1])), expected, query, key)


def test_without_gradients():
    query, key = table(3, 4, 4), table(3, 4, 5)
    pair = Pair(query, Table(key), torch.arange(3))
    with torch.no_grad():
        expected = slow(query, key, torch.arange(3), "all", 0.0, 10.0, [1] * 3).item()
        assert CCL(0.0)(pair).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"margin": 1.0}, "margin is a cosine and must be from -1 to below 1, got 1.0"),
        ({"weight": -1}, "weight must be 0 or more, got -1"),
        ({"among": "some"}, "among must be one of batch, all, got 'some'"),
    ],
)
def test_bad_settings(settings, told):
    with pytest.raises(ValueError, match=told):
        CCL(**settings)


def test_sparse_positives_are_refused():
    with pytest.raises(ValueError, match="CCL needs one positive a query"):
        CCL()(Pair(table(2, 4, 0), Table(table(3, 4, 1)), csr(torch.eye(2, 3))))
