"""LightGCN's loss and gradient against dense float64."""

import torch

from graphcl.recipes import lightgcn
from tests import dense


def test_constants():
    config = lightgcn.Config()
    assert (config.dim, config.num_layers, config.batch_size, config.learning_rate) == (64, 3, 2048, 1e-3)
    assert (config.decay, config.init, config.epochs) == (1e-4, 0.1, 1000)


def test_loss_and_gradient():
    config = lightgcn.Config(dim=dense.WIDTH, num_layers=3, decay=0.3)
    model = lightgcn.build(config, dense.log(), rng=dense.generator(0))

    def expected(table, rng):
        layers = dense.propagate(table, dense.normalised(dense.adjacency()), 3)
        return {"bpr": dense.bpr(dense.average(layers)), "decay": 0.3 * dense.half_squares(table)}

    dense.agree(model, dense.inputs(), expected)


def test_without_decay_there_is_no_such_term():
    model = lightgcn.build(lightgcn.Config(dim=dense.WIDTH, decay=0.0), dense.log(), rng=dense.generator(0))
    dense.agree(
        model,
        dense.inputs(),
        lambda table, rng: {"bpr": dense.bpr(dense.average(dense.propagate(table, dense.normalised(dense.adjacency()), 3)))},
    )


def test_what_leaves_is_the_mean_of_all_layers():
    model = lightgcn.build(lightgcn.Config(dim=dense.WIDTH), dense.log(), rng=dense.generator(0)).double()
    with torch.no_grad():
        expected = dense.average(dense.propagate(model.encoder.embedding, dense.normalised(dense.adjacency()), 3))
    torch.testing.assert_close(model.embed(dense.inputs()), expected, rtol=1e-12, atol=1e-15)
