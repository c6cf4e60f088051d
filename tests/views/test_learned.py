"""Learned augmentation against its layers in float64."""

import math

import pytest
import torch

from graphcl.testing import undisturbed
from graphcl.views import LearnedAugment
from tests.histories import generator


def test_values():
    augment = LearnedAugment(8, rng=generator()).double()
    inputs = [torch.randn(3, 8, generator=generator(n), dtype=torch.float64) for n in (1, 2)]
    for x, found, layers in zip(inputs, augment(*inputs), augment.augmenters, strict=True):
        for number in (0, 2, 4):
            x = x @ layers[number].weight.T + layers[number].bias
            x = x * (1 + torch.erf(x / math.sqrt(2))) / 2 if number < 4 else x
        torch.testing.assert_close(found, x / (x * x).sum(1, keepdim=True).sqrt())


def test_sizes_and_start():
    with undisturbed():
        augment, again = (LearnedAugment(64, rng=generator()) for _ in range(2))
    shapes = [tuple(layer.weight.shape) for layer in augment.augmenters[0] if isinstance(layer, torch.nn.Linear)]
    assert shapes == [(32, 64), (16, 32), (64, 16)]
    first, second = (sum(p.numel() for p in each.parameters()) for each in augment.augmenters)
    assert first == second == 3696
    assert not torch.equal(augment.augmenters[0][0].weight, augment.augmenters[1][0].weight)
    assert all(torch.equal(a, b) for a, b in zip(augment.parameters(), again.parameters(), strict=True))
    with pytest.raises(ValueError, match="dim must be 4 or more"):
        LearnedAugment(3, rng=generator())
