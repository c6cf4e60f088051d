"""LightGCN++'s loss and gradient against dense float64."""

import pytest
import torch

from graphcl.recipes import lightgcnpp
from tests import dense


def test_constants():
    config = lightgcnpp.Config()
    assert (config.dim, config.num_layers, config.batch_size, config.learning_rate) == (64, 2, 2048, 1e-3)
    assert (config.alpha, config.beta, config.gamma, config.decay, config.init) == (0.6, -0.1, 0.2, 1e-4, 0.1)
    assert lightgcnpp.PRESETS["general/yelp2018"] == {"gamma": 0.1}
    assert lightgcnpp.PRESETS["general/ml-1m"] == {"alpha": 0.5, "beta": 0.0, "gamma": 0.0}


def reference(table):
    op = dense.normalised(dense.adjacency(), 0.6, -0.1)
    layers = [table]
    for _ in range(3):
        layers.append(op @ dense.unit(layers[-1]))
    return 0.2 * table + 0.8 * dense.average(layers[1:])


def test_loss_and_gradient():
    config = lightgcnpp.Config(dim=dense.WIDTH, num_layers=3, decay=0.3)
    model = lightgcnpp.build(config, dense.log(), rng=dense.generator(0))
    dense.agree(
        model,
        dense.exact(lightgcnpp.inputs(config, dense.log())),
        lambda table, rng: {"bpr": dense.bpr(reference(table)), "decay": 0.3 * dense.half_squares(table)},
    )


def test_the_exponents_are_of_the_receiving_and_the_sending_degree():
    """User 1 has three items; item 0 (row 5) has two users."""
    (op,) = lightgcnpp.inputs(lightgcnpp.Config(), dense.log()).ops
    got = torch.from_numpy(op.to_scipy().toarray())
    torch.testing.assert_close(got[1, 5 + 1], torch.tensor(3**-0.6 * 2**0.1, dtype=got.dtype))
    torch.testing.assert_close(got[5 + 1, 1], torch.tensor(2**-0.6 * 3**0.1, dtype=got.dtype))


def test_the_table_is_normal_with_a_tenth():
    first, other = (
        lightgcnpp.build(lightgcnpp.Config(dim=1000, **more), dense.log(), rng=dense.generator(0)).encoder.embedding.detach()
        for more in ({}, {"init": 0.4})
    )
    assert float(first.std()) == pytest.approx(0.1, rel=0.05)
    assert other.allclose(4 * first)
