"""SGL's loss and gradient against dense float64, on the graphs that were drawn at the start of the epoch."""

import pytest
import torch

from graphcl.perturb.edges import drop_edges, random_walk
from graphcl.perturb.nodes import drop_nodes
from graphcl.recipes import sgl
from tests import dense


def test_constants():
    config = sgl.Config()
    assert (config.dim, config.num_layers, config.batch_size, config.learning_rate) == (64, 3, 2048, 1e-3)
    assert (config.drop, config.fraction, config.weight, config.temperature, config.decay) == ("ed", 0.1, 0.1, 0.2, 1e-4)
    assert sgl.PRESETS["general/amazon-book"]["weight"] == 0.5


def drawn(drop: str, rng) -> list[list[torch.Tensor]]:
    """For each of the two views, the matrix of each layer: what is left, normalised by what is left."""
    views = []
    for _ in range(2):
        if drop == "rw":
            graph = random_walk(dense.inputs(), 0.4, 3, rng)
            patterns = [(dense.entries(op) != 0).double() for op in graph.ops]
            assert len({p.sum().item() for p in patterns}) == 1
            assert not torch.equal(patterns[0], patterns[1])
        else:
            graph = (drop_edges if drop == "ed" else drop_nodes)(dense.inputs(), 0.4, rng)
            patterns = [dense.adjacency([(u, i - dense.USERS) for u, i in graph.pairs.T.tolist()])] * 3
        if drop != "nd":
            assert patterns[0].sum() == 2 * 5  # floor(.6 * 9 pairs), both directions
        views.append([dense.normalised(p) for p in patterns])
    return views


@pytest.mark.parametrize(
    ("drop", "more"), [("ed", {}), ("nd", {}), ("rw", {}), ("ed", {"readout": "sum"}), ("ed", {"contrasted": "all"})]
)
def test_loss_and_gradient(drop, more):
    """Repeated anchors count twice; the denominator is all users, or all items, of the second view."""
    config = sgl.Config(dim=dense.WIDTH, num_layers=3, drop=drop, fraction=0.4, weight=0.7, temperature=0.25, decay=0.3, **more)
    items = dense.BATCH.positives.tolist() + (dense.BATCH.negatives.tolist() if "contrasted" in more else [])
    scale = 4 if "readout" in more else 1
    model = sgl.build(config, dense.log(), rng=dense.generator(0))
    view = model.contrasts[0].views
    change = view.change
    view.change = lambda graph, rng: dense.exact(change(graph, rng))
    view.start_epoch(dense.inputs(), 1, dense.generator(3))

    def expected(table, rng):
        final = scale * dense.average(dense.propagate(table, dense.normalised(dense.adjacency()), 3))
        sides = []
        for ops in drawn(drop, dense.generator(3)):
            layers = [table]
            for op in ops:
                layers.append(op @ layers[-1])
            sides.append(dense.average(layers))
        contrast = dense.nce(*sides, dense.BATCH.users.tolist(), range(dense.USERS), 0.25) + dense.nce(
            *sides, items, range(dense.USERS, dense.NODES), 0.25
        )
        return {"bpr": dense.bpr(final), "decay": 0.3 * dense.half_squares(table), "contrast": 0.7 * contrast}

    dense.agree(model, dense.inputs(), expected)


def test_a_deleted_node_keeps_its_layer_zero():
    """With every edge gone the readout is E0 / (L + 1)."""
    model = sgl.build(sgl.Config(dim=dense.WIDTH), dense.log(), rng=dense.generator(0)).double()
    nothing = dense.inputs().with_pairs(torch.zeros(9, dtype=torch.bool))
    table = model.encoder.embedding.detach()
    torch.testing.assert_close(model.readout(model.encoder(dense.exact(nothing))).detach(), table / 4, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("key", "known"), [("drop", "ed, nd, rw"), ("readout", "mean, sum"), ("contrasted", "positives, all")])
def test_refuses_what_it_does_not_know(key, known):
    with pytest.raises(ValueError, match=f"{key} must be one of {known}, got 'edge'"):
        sgl.build(sgl.Config(**{key: "edge"}), dense.log(), rng=dense.generator(0))
