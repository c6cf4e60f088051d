"""Dropout's two values, its rate in each of the four places of a random word, and its gradient."""

import pytest
import torch

from graphcl.ops import dropout
from graphcl.streams import borrowed

N = 40_001  # no multiple of the four entries that share a word


@pytest.mark.parametrize("share", [0.5, 0.1, 0.2, 0.999])
def test_values_and_rates(share):
    x = torch.full((N,), 3.0, dtype=torch.float64)
    with borrowed(torch.Generator().manual_seed(1)):
        found = dropout(x, share)
    rate = round(share * 65536) / 65536
    kept = found != 0
    torch.testing.assert_close(found[kept], torch.full_like(found[kept], 3 / (1 - rate)))
    for place in range(4):
        some = kept[place::4].double()
        assert float(some.mean()) == pytest.approx(1 - rate, abs=5 * (rate * (1 - rate) / len(some)) ** 0.5)
    both = (kept[:-1] & kept[1:]).double().mean()  # neighbours are independent
    assert float(both) == pytest.approx((1 - rate) ** 2, abs=5 * (1 / N) ** 0.5)


def test_gradient_is_that_of_what_was_kept():
    x = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    found = dropout(x, 0.5)
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert torch.equal(gradient, torch.where(found != 0, 2.0, 0.0).double())


def test_draws_are_the_generators():
    x = torch.ones(100)

    def run(seed):
        with borrowed(torch.Generator().manual_seed(seed)):
            return dropout(x, 0.5)

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
    assert dropout(x, 0.0) is x
    assert dropout(torch.ones(0, 3), 0.5).shape == (0, 3)
