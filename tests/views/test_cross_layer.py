"""Two layers of one pass."""

import pytest

from graphcl.encoders.readout import layer, mean
from graphcl.views import CrossLayer
from tests import dense
from tests.views.passes import begin, check


@pytest.mark.parametrize("index", [0, 1, 3])
def test_pairs(index):
    forward, table, encoder = begin()
    view = CrossLayer(mean(first=1), layer(index))
    layers = dense.propagate(table, dense.normalised(dense.adjacency()), 3)
    check(view(forward), [(dense.average(layers[1:]), layers[index])])
    assert encoder.calls == 1
    assert view.passes == 0
