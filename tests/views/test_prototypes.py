"""Which nodes stand against which centroids, and when these move."""

import logging

import pytest
import torch
from torch.testing import assert_close

from graphcl.encoders.readout import layer
from graphcl.views import Prototypes
from tests import dense
from tests.test_cluster import lloyd
from tests.views.passes import begin

SIZES = {"user": dense.USERS, "item": dense.ITEMS}


def prototypes(num_clusters: int = 2, **options) -> Prototypes:
    return Prototypes(num_clusters, layer(0), SIZES, dense.WIDTH, **options).double()


@pytest.mark.parametrize("number", [0, 2])
def test_pairs(number):
    """Queries are rows of the readout, keys the means of the clusters of the kind's rows, the positive is the own one."""
    forward, table, encoder = begin("all-repeated")
    view = Prototypes(2, layer(number), SIZES, dense.WIDTH).double()
    view.start_epoch(forward.inputs, 1, forward.rng)
    pairs = view(forward)
    side = dense.propagate(table, dense.normalised(dense.adjacency()), 3)[number]
    items = torch.cat([dense.BATCH.positives, dense.BATCH.negatives])
    assert [pair.kind for pair in pairs] == ["user", "item"]
    for pair, span, anchors in zip(pairs, (dense.USER_ROWS, dense.ITEM_ROWS), (dense.BATCH.users, items), strict=True):
        found, counts = anchors.unique(return_counts=True)
        rows = side[span].detach()
        centroids, nearest = view.get_buffer(f"{pair.kind}_centroids"), view.get_buffer(f"{pair.kind}_nearest")
        again, own, _ = lloyd(rows, centroids)
        assert_close(centroids, again, rtol=1e-12, atol=1e-14)
        assert torch.equal(nearest, own)
        assert_close(pair.query, side[found], rtol=1e-12, atol=1e-14)
        assert_close(pair.key.all(), centroids, rtol=0, atol=0)
        assert len(pair.key) == 2
        assert torch.equal(pair.positives, own[found - span.start])
        assert torch.equal(pair.weights, counts)
        assert pair.query.requires_grad
        assert not pair.key.all().requires_grad
    assert encoder.calls == 1


def test_when_centroids_move():
    """Two epochs of nothing; then every third, at the first step, from where they were."""
    view, forward = prototypes(warm_up=2, every=3), begin()[0]
    assert view.user_centroids.eq(0).all()
    moved = []
    for epoch in range(1, 10):
        with torch.no_grad():
            forward.main[0].add_(0.3 * torch.randn(dense.NODES, dense.WIDTH, generator=dense.generator(epoch)))
        view.start_epoch(forward.inputs, epoch, forward.rng)
        for step in range(2):
            was = view.user_centroids.clone()
            pairs = view(forward)
            assert len(pairs) == (0 if epoch <= 2 else 2)
            if not torch.equal(was, view.user_centroids):
                moved.append((epoch, step))
                if epoch > 3:  # warm: each centroid's nearest of the old ones is its own
                    found, _, _ = lloyd(forward.main[0][dense.USER_ROWS].detach(), was)
                    assert_close(view.user_centroids, found, rtol=1e-12, atol=1e-14)
    assert moved == [(3, 0), (6, 0), (9, 0)]


def test_state_is_in_the_buffers():
    """An epoch that does not cluster goes on with the centroids it is handed, and one that does starts from them."""
    forward = begin()[0]
    one, two = prototypes(every=2), prototypes(every=2)
    one.start_epoch(forward.inputs, 1, forward.rng)
    one(forward)
    two.load_state_dict(one.state_dict())
    for epoch in (2, 3):
        with torch.no_grad():
            forward.main[0].add_(torch.randn(dense.NODES, dense.WIDTH, generator=dense.generator(epoch)))
        for view in (one, two):
            view.start_epoch(forward.inputs, epoch, forward.rng)
        for a, b in zip(one(forward), two(forward), strict=True):
            assert torch.equal(a.key.all(), b.key.all())
            assert torch.equal(a.positives, b.positives)


def test_a_kind_with_few_nodes_gets_one_cluster_each(caplog):
    with caplog.at_level(logging.WARNING):
        view = prototypes(6)
    assert "6 clusters of kind 'user' asked for, which has 5 nodes" in caplog.text
    assert "item" not in caplog.text
    forward = begin()[0]
    view.start_epoch(forward.inputs, 1, forward.rng)
    user, item = view(forward)
    assert (len(user.key), len(item.key)) == (5, 6)
    assert_close(user.key.at(user.positives), user.query.detach(), rtol=0, atol=1e-12)


def test_bad_settings_and_order():
    for options in ({"num_clusters": 0}, {"warm_up": -1}, {"every": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} must be"):
            prototypes(**options)
    with pytest.raises(RuntimeError, match="needs start_epoch"):
        prototypes()(begin()[0])
