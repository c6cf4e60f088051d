"""Two changed inputs, drawn at every step or once an epoch."""

from functools import partial

import pytest
import torch

from graphcl.encoders.readout import mean
from graphcl.perturb.edges import drop_edges
from graphcl.views import TwoInputs
from tests import dense
from tests.views.passes import begin, check


def halved(graph, rng):
    return dense.exact(drop_edges(graph, 0.5, rng))


def side(table, graph):
    left = [(u, i - dense.USERS) for u, i in graph.pairs.T.tolist()]
    assert len(left) == 4  # floor(.5 * 9)
    return dense.average(dense.propagate(table, dense.normalised(dense.adjacency(left)), 3))


def test_every_step():
    forward, table, encoder = begin()
    view = TwoInputs(halved, mean())
    rng = dense.generator(7)
    first, second = (side(table, halved(dense.inputs(), rng)) for _ in range(2))
    assert not torch.equal(first, second)
    check(view(forward), [(first, second)])
    assert encoder.calls == view.passes == 2


def test_every_epoch():
    """The graphs of start_epoch stay for all steps, and a step draws nothing."""
    view = TwoInputs(halved, mean(), every="epoch")
    for epoch in (1, 2):
        view.start_epoch(dense.inputs(), epoch, dense.generator(epoch))
        rng = dense.generator(epoch)
        graphs = [halved(dense.inputs(), rng) for _ in range(2)]
        for step in range(2):
            forward, table, _ = begin(seed=step)
            check(view(forward), [tuple(side(table, graph) for graph in graphs)])
            assert torch.equal(forward.rng.get_state(), dense.generator(step).get_state())


def test_every_epoch_needs_an_epoch():
    with pytest.raises(RuntimeError, match="start_epoch"):
        TwoInputs(halved, mean(), every="epoch")(begin()[0])
    with pytest.raises(ValueError, match="every must be 'epoch' or 'step', got 'batch'"):
        TwoInputs(partial(drop_edges, fraction=0.5), mean(), every="batch")
