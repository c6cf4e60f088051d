"""BPR and hinge over triples, number by number."""

import math

import torch
from torch.testing import assert_close

from graphcl.objectives.bpr import bpr, hinge
from tests.objectives.dense import table


def margins(users, positives, negatives) -> list[torch.Tensor]:
    return [
        sum(u * i for u, i in zip(users[b], positives[b], strict=True))
        - sum(u * j for u, j in zip(users[b], negatives[b], strict=True))
        for b in range(len(users))
    ]


def test_bpr():
    rows = [table(5, 3, seed) for seed in range(3)]
    expected = sum((1 + (-margin).exp()).log() for margin in margins(*rows)) / 5
    got = bpr(*rows)
    assert_close(got, expected, rtol=1e-12, atol=0)
    assert_close(torch.autograd.grad(got, rows), torch.autograd.grad(expected, rows), rtol=1e-12, atol=1e-14)


def test_bpr_starts_at_log_two():
    rows = [torch.full((4, 3), 1e-6, dtype=torch.float64) for _ in range(3)]
    assert_close(bpr(*rows), torch.tensor(math.log(2), dtype=torch.float64))


def test_bpr_of_a_lost_pair_is_its_margin():
    """log(sigmoid(-200)) is -inf in float32 and its gradient NaN; softplus is 200, and the gradient goes on pulling."""
    users = torch.tensor([[1.0]], requires_grad=True)
    loss = bpr(users, torch.tensor([[-100.0]]), torch.tensor([[100.0]]))
    assert loss.item() == 200
    assert torch.autograd.grad(loss, users)[0].item() == 200


def test_hinge():
    rows = [table(6, 3, seed, scale=0.7) for seed in (3, 4, 5)]
    values = margins(*rows)
    assert any(m > 1 for m in values)  # both sides of the kink are there
    assert any(m < 1 for m in values)
    expected = sum((1 - m) for m in values if m < 1) / 256
    got = hinge(*rows, count=256)
    assert_close(got, expected, rtol=1e-12, atol=0)
    assert_close(torch.autograd.grad(got, rows), torch.autograd.grad(expected, rows), rtol=1e-12, atol=1e-14)
