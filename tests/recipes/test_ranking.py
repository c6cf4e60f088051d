"""The ranking task: its loss and three decays against dense float64."""

import pytest
import torch
from torch import nn

from graphcl.encoders import LightGCN
from graphcl.encoders.readout import mean
from graphcl.recipes.model import Model
from graphcl.recipes.ranking import Ranking
from tests import dense


def model_of(task: Ranking) -> Model:
    sizes = {"user": dense.USERS, "item": dense.ITEMS}
    return Model(LightGCN(sizes, dense.WIDTH, 2, rng=dense.generator(0)), mean(), task)


def final(table):
    return dense.average(dense.propagate(table, dense.normalised(dense.adjacency()), 2))


DECAYS = {
    "input": lambda table: dense.half_squares(table),
    "output": lambda table: dense.frobenius(final(table)),
    "parameters": lambda table: table.square().sum(),
}


@pytest.mark.parametrize("decay", DECAYS)
def test_decay(decay):
    def expected(table, rng):
        return {"bpr": dense.bpr(final(table)), "decay": 0.3 * DECAYS[decay](table)}

    dense.agree(model_of(Ranking(0.3, decay)), dense.inputs(), expected)


def test_every_parameter_decays():
    model = model_of(Ranking(0.3, "parameters")).double()
    model.more = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    decay = model.losses(dense.inputs(), dense.BATCH, dense.generator(0))["decay"]
    expected = 0.3 * (model.encoder.embedding.detach().square().sum() + 25)
    torch.testing.assert_close(decay.detach(), expected, rtol=1e-12, atol=0)


def test_another_loss_under_its_own_name():
    def margin(users, positives, negatives):
        return ((users * negatives).sum(1) - (users * positives).sum(1)).sum()

    def expected(table, rng):
        return {
            "margin": margin(*(final(table)[rows] for rows in (dense.BATCH.users, dense.BATCH.positives, dense.BATCH.negatives)))
        }

    dense.agree(model_of(Ranking(0.0, loss=margin, name="margin")), dense.inputs(), expected)


def test_unknown_decay_is_refused():
    """It used to mean "parameters", silently."""
    with pytest.raises(ValueError, match="decay must be one of input, output, parameters, got 'layer0'"):
        Ranking(0.1, "layer0")
