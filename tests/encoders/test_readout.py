"""Readouts, before and after rows are chosen."""

import pytest
import torch

from graphcl.contracts import Layers
from graphcl.encoders.readout import blend, increment, layer, mean, total

E = [torch.randn(6, 4, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in range(4)]
CASES = {
    "mean of all": (mean(), (E[0] + E[1] + E[2] + E[3]) / 4),
    "mean without the input": (mean(first=1), (E[1] + E[2] + E[3]) / 3),
    "sum of all": (total(), E[0] + E[1] + E[2] + E[3]),
    "sum without the input": (total(first=1), E[1] + E[2] + E[3]),
    "the input": (layer(0), E[0]),
    "layer 2": (layer(2), E[2]),
    "the last": (layer(-1), E[3]),
    "what layer 2 adds": (increment(2), E[2] - E[1]),
    "blend": (blend(0.2), 0.2 * E[0] + 0.8 * (E[1] + E[2] + E[3]) / 3),
}


@pytest.mark.parametrize("name", CASES)
def test_value(name):
    readout, expected = CASES[name]
    torch.testing.assert_close(readout(Layers(tuple(E))), expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("name", CASES)
def test_rows_may_be_chosen_before_or_after(name):
    readout, _ = CASES[name]
    rows = torch.tensor([5, 0, 0, 3])
    assert torch.equal(readout(Layers(tuple(E)).at(rows)), readout(Layers(tuple(E)))[rows])


@pytest.mark.parametrize("name", CASES)
def test_readouts_equal_in_settings_are_equal(name):
    """A pass keeps its whole tables by readout, so two that say the same must find the same table."""
    readout, _ = CASES[name]
    assert readout == type(readout)(**vars(readout))
    assert hash(readout) == hash(type(readout)(**vars(readout)))
    assert mean(0) != mean(1)


def test_layers_that_are_not_there_are_refused():
    with pytest.raises(IndexError):
        layer(4)(Layers(tuple(E)))
    with pytest.raises(ValueError, match="layers from 1 on are read, but the encoder has num_layers 0"):
        mean(first=1)(Layers((E[0],)))


@pytest.mark.parametrize("made", [lambda: mean(-1), lambda: total(-1), lambda: increment(0)])
def test_indices_that_would_count_from_the_end_are_refused(made):
    with pytest.raises(ValueError, match=r"must be [01] or more"):
        made()
