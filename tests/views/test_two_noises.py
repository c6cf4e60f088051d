"""Two noisy passes."""

import torch

from graphcl.encoders.readout import mean
from graphcl.perturb.noise import SignNoise
from graphcl.views import TwoNoises
from tests import dense
from tests.views.passes import begin, check


def test_pairs():
    forward, table, encoder = begin()
    view = TwoNoises(SignNoise(0.3), mean(first=1))
    op, rng = dense.normalised(dense.adjacency()), dense.generator(7)
    first, second = (dense.average(dense.propagate(table, op, 3, eps=0.3, keys=dense.layer_keys(rng, 3))[1:]) for _ in range(2))
    assert not torch.equal(first, second)
    check(view(forward), [(first, second)])
    assert encoder.calls == view.passes == 2  # the main pass was not asked for
