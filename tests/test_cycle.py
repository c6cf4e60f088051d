"""The contract test of recipes for histories, over all of them and on one that breaks it."""

from types import SimpleNamespace

import pytest
import torch

from graphcl.cycle import cycle
from graphcl.recipes import RECIPES, sasrec
from graphcl.recipes.configure import find
from graphcl.testing import check_recipe

pytest.importorskip("graphcl.data.sequence_batches")

LEARNED = [name for name in RECIPES if find(name).KIND == "sequential" and "batches" in vars(find(name))]


def test_cycle():
    log, withheld = cycle(5, 4, 2)
    assert log.items.view(5, 2).tolist() == [[0, 1], [1, 2], [2, 3], [3, 0], [0, 1]]
    assert withheld.tolist() == [2, 3, 0, 1, 2]
    assert log.lengths.tolist() == [2] * 5
    with pytest.raises(ValueError, match="length must lie between 2 and 3, got 4"):
        cycle(5, 4, 4)


@pytest.mark.slow
@pytest.mark.parametrize("rows", ["user", "prefix"])
@pytest.mark.parametrize("name", LEARNED)
def test_recipe_learns_the_cycle(name, rows):
    check_recipe(find(name), epochs=30, rows=rows)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["sampled", "gbce", "bce"])
def test_every_loss_learns_the_cycle(loss):
    check_recipe(sasrec, epochs=60, loss=loss)


def test_a_recipe_without_batches_has_a_row_a_user():
    """Contributors may leave ``batches`` out."""
    own = SimpleNamespace(**{name: getattr(sasrec, name) for name in ("KIND", "Config", "PRESETS", "build")}, __name__="mine")
    assert 0 <= check_recipe(own, epochs=1, least=0) <= 1


def test_without_training_nothing_is_known():
    with pytest.raises(AssertionError, match="of users, not for 90%"):
        check_recipe(sasrec, epochs=0)


def test_a_recipe_that_writes_its_data_is_found():
    def build(config, data, *, rng):
        data.items.zero_()
        return SimpleNamespace(num_items=data.num_items, score=lambda items, lengths: torch.zeros(len(items), data.num_items))

    writing = SimpleNamespace(**{**vars(sasrec), "build": build, "__name__": "writing"})
    with pytest.raises(AssertionError, match="were written to"):
        check_recipe(writing)
