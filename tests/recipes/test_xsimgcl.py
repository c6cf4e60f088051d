"""XSimGCL's loss and gradient against dense float64 with the same noise."""

import pytest
import torch

from graphcl.recipes import xsimgcl
from tests import dense


def test_constants():
    config = xsimgcl.Config()
    assert (config.dim, config.num_layers, config.batch_size, config.learning_rate) == (64, 3, 2048, 1e-3)
    assert (config.eps, config.weight, config.temperature, config.contrast_layer, config.decay) == (0.2, 0.2, 0.15, 1, 1e-4)


@pytest.mark.parametrize("layer", [0, 1, 3])
def test_loss_and_gradient(layer):
    """One noisy pass: ranking, decay and both sides of the contrast read it. Layer 0 is the raw table, 3 the deferred last one."""
    config = xsimgcl.Config(dim=dense.WIDTH, num_layers=3, eps=0.3, weight=0.7, temperature=0.25, contrast_layer=layer, decay=0.3)
    model = xsimgcl.build(config, dense.log(), rng=dense.generator(0))

    def expected(table, rng):
        layers = dense.propagate(table, dense.normalised(dense.adjacency()), 3, eps=0.3, keys=dense.layer_keys(rng, 3))
        final = dense.average(layers[1:])
        contrast = sum(
            dense.nce(final, layers[layer], rows, rows, 0.25)
            for rows in (dense.unique(dense.BATCH.users), dense.unique(dense.BATCH.positives))
        )
        return {"bpr": dense.bpr(final), "decay": 0.3 * dense.frobenius(final), "contrast": 0.7 * contrast}

    dense.agree(model, dense.inputs(), expected)


def test_what_leaves_has_no_noise():
    model = xsimgcl.build(xsimgcl.Config(dim=dense.WIDTH), dense.log(), rng=dense.generator(0)).double().train()
    with torch.no_grad():
        expected = dense.average(dense.propagate(model.encoder.embedding, dense.normalised(dense.adjacency()), 3)[1:])
    torch.testing.assert_close(model.embed(dense.inputs()), expected, rtol=1e-12, atol=1e-15)
    assert model.training


@pytest.mark.parametrize("settings", [{"contrast_layer": 4}, {"contrast_layer": -1}])
def test_the_contrast_reads_a_layer_that_there_is(settings):
    with pytest.raises(ValueError, match="contrast_layer must lie between 0 and num_layers, 3, got"):
        xsimgcl.build(xsimgcl.Config(**settings), dense.log(), rng=dense.generator(0))


def test_layers_of_which_there_are_none():
    with pytest.raises(ValueError, match="layers from 1 on are read, but the encoder has num_layers 0"):
        xsimgcl.build(xsimgcl.Config(num_layers=0, contrast_layer=0), dense.log(), rng=dense.generator(0))
