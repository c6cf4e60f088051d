"""Losses of the next item against dense formulas in float64."""

import pytest
import torch

from graphcl.objectives.next_item import binary, calibrated_binary, full_softmax, power, sampled_softmax
from tests.objectives.dense import table

TARGETS = torch.tensor([0, 3, 3, 10, 7])
SHARED = torch.tensor([3, 5, 10, 5])  # targets among them, one item twice
OWN = torch.tensor([[1, 2], [3, 0], [4, 4], [9, 10], [6, 5]])


def sigmoid(x):
    return 1 / (1 + (-x).exp())


def same(loss, slow):
    """Value and gradients, where ``slow`` gives one term a target."""
    hidden, items = table(5, 4, 0), table(11, 4, 1)
    found, expected = loss(hidden, items), torch.stack(slow(hidden, items)).sum() / 5
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    for a, b in zip(torch.autograd.grad(found, (hidden, items)), torch.autograd.grad(expected, (hidden, items)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def logits(hidden, items):
    return [[(h * item).sum() for item in items] for h in hidden]


@pytest.mark.parametrize("tile_entries", [1, 12, 2**20])
def test_full_softmax(tile_entries):
    def slow(hidden, items):
        return [
            -(s[t].exp() / sum(x.exp() for x in s)).log() for s, t in zip(logits(hidden, items), TARGETS.tolist(), strict=True)
        ]

    same(lambda h, i: full_softmax(h, i, TARGETS, tile_entries=tile_entries), slow)


def drawn(negatives):
    rows = negatives.tolist() if negatives.dim() == 2 else [negatives.tolist()] * 5
    return [[n for n in row if n != t] for row, t in zip(rows, TARGETS.tolist(), strict=True)]


@pytest.mark.parametrize("log_q", [False, True])
@pytest.mark.parametrize("negatives", [SHARED, OWN], ids=["shared", "own"])
def test_sampled_softmax(negatives, log_q):
    def slow(hidden, items):
        out = []
        for s, t, others in zip(logits(hidden, items), TARGETS.tolist(), drawn(negatives), strict=True):
            each = 10 / len(others) if log_q else 1
            out.append(-(s[t].exp() / (s[t].exp() + sum(each * s[n].exp() for n in others))).log())
        return out

    same(lambda h, i: sampled_softmax(h, i, TARGETS, negatives, log_q=log_q), slow)


def test_log_q_of_every_item_once_is_the_full_softmax():
    hidden, items = table(5, 4, 0), table(11, 4, 1)
    found = sampled_softmax(hidden, items, TARGETS, torch.arange(11), log_q=True)
    torch.testing.assert_close(found, full_softmax(hidden, items, TARGETS))


@pytest.mark.parametrize("negatives", [SHARED, OWN], ids=["shared", "own"])
def test_binary(negatives):
    def slow(hidden, items):
        return [
            -sigmoid(s[t]).log() - sum((1 - sigmoid(s[n])).log() for n in others)
            for s, t, others in zip(logits(hidden, items), TARGETS.tolist(), drawn(negatives), strict=True)
        ]

    same(lambda h, i: binary(h, i, TARGETS, negatives), slow)


@pytest.mark.parametrize("calibration", [0.0, 0.75, 1.0])
@pytest.mark.parametrize("negatives", [SHARED, OWN], ids=["shared", "own"])
def test_calibrated_binary_is_the_transform_of_logits(negatives, calibration):
    k = negatives.shape[-1]
    alpha = k / 10
    beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)

    def slow(hidden, items):
        out = []
        for s, t, others in zip(logits(hidden, items), TARGETS.tolist(), drawn(negatives), strict=True):
            moved = -(sigmoid(s[t]) ** -beta - 1).log()
            out.append((-sigmoid(moved).log() - sum((1 - sigmoid(s[n])).log() for n in others)) / (k + 1))
        return out

    assert power(k, 11, calibration) == pytest.approx(beta)
    same(lambda h, i: calibrated_binary(h, i, TARGETS, negatives, calibration=calibration), slow)


def test_calibration():
    assert power(1, 101, 0.0) == pytest.approx(1)  # plain
    assert power(25, 101, 1.0) == pytest.approx(0.25)  # the sampling rate


def test_extreme_logits_stay_finite():
    hidden, items = torch.full((1, 1), 300.0, requires_grad=True), torch.tensor([[1.0], [-1.0]], requires_grad=True)
    for target, other in ((0, 1), (1, 0)):
        targets, negatives = torch.tensor([target]), torch.tensor([other])
        for loss in (
            full_softmax(hidden, items, targets),
            sampled_softmax(hidden, items, targets, negatives, log_q=True),
            binary(hidden, items, targets, negatives),
            calibrated_binary(hidden, items, targets, negatives, calibration=0.75),
        ):
            assert loss.isfinite()
            assert all(g.isfinite().all() for g in torch.autograd.grad(loss, (hidden, items)))


def test_a_target_whose_only_negative_is_itself():
    hidden, items = table(2, 4, 0), table(3, 4, 1)
    targets, negatives = torch.tensor([1, 2]), torch.tensor([1])
    for log_q in (False, True):
        loss = sampled_softmax(hidden, items, targets, negatives, log_q=log_q)
        alone = sampled_softmax(hidden[1:], items, targets[1:], negatives, log_q=log_q)
        torch.testing.assert_close(loss, alone / 2)
        assert all(g.isfinite().all() for g in torch.autograd.grad(loss, (hidden, items)))
