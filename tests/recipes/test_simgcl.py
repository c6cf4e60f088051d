"""SimGCL's loss and gradient against dense float64 with the same noise."""

from graphcl.recipes import simgcl
from tests import dense


def test_constants():
    config = simgcl.Config()
    assert (config.dim, config.num_layers, config.batch_size, config.learning_rate) == (64, 3, 2048, 1e-3)
    assert (config.eps, config.weight, config.temperature, config.decay) == (0.1, 0.5, 0.2, 1e-4)
    assert simgcl.PRESETS["general/amazon-book"]["weight"] == 2.0


def test_loss_and_gradient():
    config = simgcl.Config(dim=dense.WIDTH, num_layers=3, eps=0.3, weight=0.7, temperature=0.25, decay=0.3)
    model = simgcl.build(config, dense.log(), rng=dense.generator(0))

    def expected(table, rng):
        op = dense.normalised(dense.adjacency())
        final = dense.average(dense.propagate(table, op, 3)[1:])
        first, second = (
            dense.average(dense.propagate(table, op, 3, eps=0.3, keys=dense.layer_keys(rng, 3))[1:]) for _ in range(2)
        )
        contrast = sum(
            dense.nce(first, second, rows, rows, 0.25)
            for rows in (dense.unique(dense.BATCH.users), dense.unique(dense.BATCH.positives))
        )
        return {"bpr": dense.bpr(final), "decay": 0.3 * dense.frobenius(final), "contrast": 0.7 * contrast}

    dense.agree(model, dense.inputs(), expected)
