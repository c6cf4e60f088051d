"""SimCLR's InfoNCE and MCLRec's regulariser against loops over anchors, in float64."""

import pytest
import torch

from graphcl.contracts import Pair
from graphcl.objectives import NTXent
from graphcl.objectives.contrastive_regulariser import contrastive_regulariser
from tests.objectives.dense import Table, csr, similarity, table


def slow_ntxent(first, second, temperature, cosine):
    rows, n = [*first, *second], len(first)
    terms = []
    for i, row in enumerate(rows):
        exponentials = [(similarity(row, other, cosine) / temperature).exp() for j, other in enumerate(rows) if j != i]
        partner = (similarity(row, rows[(i + n) % (2 * n)], cosine) / temperature).exp()
        assert len(exponentials) == 2 * n - 1
        terms.append(-(partner / sum(exponentials)).log())
    return sum(terms) / len(terms)


def slow_regulariser(first, second, thresholds):
    rows, n = [*first, *second], len(first)
    positive = [rows[i] @ rows[(i + n) % (2 * n)] for i in range(2 * n)]
    negative = [[rows[i] @ rows[j] for j in range(2 * n) if j % n != i % n] for i in range(2 * n)]
    if thresholds == "row":
        least, greatest = positive, [max(each) for each in negative]
    else:
        least, greatest = [min(positive)] * (2 * n), [max(max(each) for each in negative)] * (2 * n)
    above = [max(p - min(a, b), 0 * p) for p, a, b in zip(positive, least, greatest, strict=True)]
    below = [max(max(a, b) - q, 0 * q) for row, a, b in zip(negative, least, greatest, strict=True) for q in row]
    return sum(above) / len(above) + sum(below) / len(below)


def equal(fast, slow, size=5):
    a, b = table(size, 4, 0), table(size, 4, 1)
    found, expected = fast(a, b), slow(a, b)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    for x, y in zip(torch.autograd.grad(found, (a, b)), torch.autograd.grad(expected, (a, b)), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("similar", ["dot", "cosine"])
@pytest.mark.parametrize("temperature", [1.0, 0.2])
def test_ntxent(similar, temperature):
    equal(NTXent(temperature, similar).between, lambda a, b: slow_ntxent(a, b, temperature, similar == "cosine"))


@pytest.mark.parametrize("thresholds", ["row", "batch"])
@pytest.mark.parametrize("size", [2, 5])
def test_regulariser(thresholds, size):
    equal(lambda a, b: contrastive_regulariser(a, b, thresholds), lambda a, b: slow_regulariser(a, b, thresholds), size)


def test_the_two_regularisers_differ():
    a, b = table(5, 4, 0), table(5, 4, 1)
    assert contrastive_regulariser(a, b, "row") < contrastive_regulariser(a, b, "batch")


def test_a_row_alone():
    a, b = table(1, 4, 0), table(1, 4, 1)
    assert NTXent().between(a, b) == 0
    assert contrastive_regulariser(a, b, "row") == 0


def test_bad_settings():
    with pytest.raises(ValueError, match="temperature must be above 0"):
        NTXent(0.0)
    with pytest.raises(ValueError, match="similarity must be dot or cosine"):
        NTXent(1.0, "euclid")
    with pytest.raises(ValueError, match="thresholds must be row or batch"):
        contrastive_regulariser(table(2, 2, 0), table(2, 2, 1), "all")


def test_weights_count_rows_of_both_views():
    a, b = table(3, 4, 0), table(5, 4, 1)
    positives, weights = torch.tensor([4, 0, 2]), torch.tensor([2.0, 0.0, 1.0])
    rows = [*a, *b[positives]]
    terms = [
        -((rows[i] @ rows[(i + 3) % 6]).exp() / sum((rows[i] @ rows[j]).exp() for j in range(6) if j != i)).log()
        for i in range(6)
    ]
    expected = sum(w * t for w, t in zip(weights.repeat(2), terms, strict=True)) / 6
    torch.testing.assert_close(NTXent()(Pair(a, Table(b), positives, weights=weights)), expected)
    with pytest.raises(ValueError, match="NTXent needs one positive a query"):
        NTXent()(Pair(a, Table(b), csr(torch.eye(3, 5))))
