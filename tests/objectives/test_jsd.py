"""JSD against loops in float64, values and gradients."""

import math

import pytest
import torch

from graphcl.contracts import Pair
from graphcl.objectives import JSD
from tests.objectives.dense import Table, agree, csr, similarity, table

IDS = {"once": torch.tensor([4, 0, 6, 2, 5]), "twice": torch.tensor([4, 0, 4, 2, 4])}


def slow(query, key, positives, weights):
    """As it is written by those who released it: E_neg [softplus(-s) + s - log 2] - E_pos [log 2 - softplus(-s)]."""
    ids = positives.tolist()
    falsely, truly, pairs = 0.0, 0.0, 0
    for i, own in enumerate(ids):
        s = similarity(query[i], key[own], False)
        truly = truly + weights[i] * (math.log(2) - (1 + (-s).exp()).log())
        for j in ids:
            if j != own:
                s = similarity(query[i], key[j], False)
                falsely = falsely + weights[i] * ((1 + (-s).exp()).log() + s - math.log(2))
                pairs += weights[i]
    return falsely / pairs - truly / sum(weights)


@pytest.mark.parametrize("ids", IDS)
@pytest.mark.parametrize("weights", [None, torch.tensor([3, 1, 2, 0, 1])], ids=["even", "weighted"])
@pytest.mark.parametrize("tile_entries", [1, 12, 2**20])
def test_value_and_gradient(ids, weights, tile_entries):
    query, key, positives = table(5, 4, 0), table(7, 4, 1), IDS[ids]
    expected = slow(query, key, positives, [1] * 5 if weights is None else weights.tolist())
    agree(JSD(tile_entries), Pair(query, Table(key), positives, weights=weights), expected, query, key)


def test_by_hand():
    """Scores of zero tell nothing: 0. Scores of 1000 and -1000 for true and false pairs: -2 log 2, with no gradient left."""
    zero = torch.zeros(3, 2, dtype=torch.float64)
    assert JSD()(Pair(zero, Table(zero), torch.arange(3))).item() == pytest.approx(0, abs=1e-15)
    far = torch.tensor([[1.0], [-1.0]], dtype=torch.float64) * 1000**0.5
    assert JSD()(Pair(far, Table(far), torch.arange(2))).item() == pytest.approx(-2 * math.log(2))


def test_alone_there_is_the_positive_term():
    query, key = table(2, 4, 2), table(3, 4, 3)
    expected = sum((1 + (-similarity(q, key[1], False)).exp()).log() - math.log(2) for q in query) / 2
    agree(JSD(), Pair(query, Table(key), torch.tensor([1, 1])), expected, query, key)


def test_sparse_positives_are_refused():
    with pytest.raises(ValueError, match="JSD needs one positive a query"):
        JSD()(Pair(table(2, 4, 0), Table(table(3, 4, 1)), csr(torch.eye(2, 3))))
