"""The first five steps of every trained recipe are what they were. If a change means to move them: ``make golden``."""

import json

import pytest

from tests.golden.regenerate import FILE, STEPS, steps, trained

GOLDEN = json.loads(FILE.read_text())


def test_every_recipe_is_there():
    assert GOLDEN.keys() == trained().keys(), "run `make golden`"


@pytest.mark.parametrize("name", GOLDEN)
def test_first_five_steps(name):
    """Within 1e-4: sums of a few hundred float32 numbers differ in the last digits between BLAS versions."""
    found, kept = steps(*trained()[name]), GOLDEN[name]
    assert found.keys() == kept.keys()
    for term, values in kept.items():
        assert len(values) == STEPS
        assert found[term] == pytest.approx(values, rel=1e-4), term
