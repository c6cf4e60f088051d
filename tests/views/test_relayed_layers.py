"""Each layer against the same layer seen through another operator."""

import pytest
import torch
from torch.testing import assert_close

from graphcl.encoders import ResidualGCN
from graphcl.encoders.readout import increment, layer
from graphcl.ops import LowRank, draw_key, uniform
from graphcl.views import RelayedLayers
from tests import dense
from tests.views.passes import begin, check
from tests.views.test_relayed import low_rank


def leaky(x):
    return torch.where(x > 0, x, 0.5 * x)


def of(op, num_layers=2, **options) -> RelayedLayers:
    readouts = tuple(increment(number) for number in range(1, num_layers + 1))
    return RelayedLayers(op, readouts, dense.WIDTH, rng=dense.generator(3), **options).double()


def test_pairs():
    """Queries: unit rows of what a residual layer gained. Keys: unit rows of the relayed layer below, times W."""
    forward, table, encoder = begin("all", num_layers=2, encoder=ResidualGCN)
    op, matrix = low_rank(2)
    view = of(op, drop=0.0)
    graph, h, sides = dense.normalised(dense.adjacency()), table, []
    for weight in view.weights:
        gain = leaky(graph @ h)
        sides.append((dense.unit(gain), dense.unit(leaky(matrix @ h)) @ weight))
        h = h + gain
    pairs = view(forward)
    check(pairs, sides, torch.cat([dense.BATCH.positives, dense.BATCH.negatives]))
    assert all(p.weights is None for p in pairs)
    assert encoder.calls == 1
    assert view.passes == 0


def test_weights_are_trained_and_saved():
    view = of(low_rank(2)[0], num_layers=2)
    assert [tuple(p.shape) for p in view.parameters()] == [(4, 4), (4, 4)]
    assert sorted(view.state_dict()) == ["weights.0", "weights.1"]
    assert not torch.equal(*view.parameters())
    assert max(p.abs().max() for p in view.parameters()) <= (6 / 8) ** 0.5  # Xavier, 4 x 4


@pytest.mark.parametrize("rows", ["all", "all-repeated"])
def test_dropped_queries_weigh_nothing(rows):
    """One key of draws a pair; a query is told by its number in the graph. Repeats count unless they are dropped."""
    forward, _, _ = begin(rows, num_layers=2, encoder=ResidualGCN)
    pairs = of(low_rank(2)[0], drop=0.5)(forward)
    rng = dense.generator(7)
    seen = []
    for pair in pairs:
        rows_of_kind = forward.rows[pair.kind]
        stays = uniform(draw_key(rng), rows_of_kind)[:, 0] >= 0.5
        times = torch.ones(len(stays), dtype=torch.int64)
        if rows == "all-repeated":
            b = dense.BATCH
            of_kind = b.users if pair.kind == "user" else torch.cat([b.positives, b.negatives])
            times = (of_kind[None, :] == rows_of_kind[:, None]).sum(1)
        assert torch.equal(pair.weights.to(torch.int64), stays * times)
        seen += stays.tolist()
    assert True in seen
    assert False in seen


def test_the_whole_svd_relays_what_the_graph_does():
    op = dense.normalised(dense.adjacency())
    u, s, vt = torch.linalg.svd(op)
    forward, _, _ = begin(num_layers=2, encoder=ResidualGCN)
    view = of(LowRank(u * s, vt.T.contiguous()), drop=0.0)
    with torch.no_grad():
        for weight in view.weights:
            weight.copy_(torch.eye(dense.WIDTH))
    for pair in view(forward):
        assert_close(pair.query, pair.key.at(pair.positives), rtol=0, atol=1e-12)


def test_refuses_a_drop_of_everything():
    with pytest.raises(ValueError, match="drop must lie in"):
        RelayedLayers(low_rank(2)[0], (layer(1),), dense.WIDTH, drop=1.0, rng=dense.generator(0))
