"""MEOW's weighed negatives by cluster means: against a dense formula, and below the exact loss."""

import pytest
import torch
from torch.testing import assert_close

from graphcl.contracts import Pair
from graphcl.objectives import ClusterMeans, WeightedInfoNCE, cluster_means
from tests.objectives.dense import Table, csr, table

T = 0.4
POSITIVES = torch.tensor([3, 1, 7, 8, 0])
IDS = torch.tensor(
    [[0, 2], [1, 2], [0, 2], [0, 2], [1, 0], [3, 0], [3, 0], [3, 2], [1, 2], [0, 2]]
)  # cluster 2, and 1 of the other, are empty


def slow(query, key):
    losses = []
    for i, p in enumerate(POSITIVES.tolist()):
        terms = []
        for k in range(2):
            for c in IDS[:, k].unique().tolist():
                members = [j for j in range(10) if IDS[j, k] == c]
                if c != IDS[p, k]:
                    terms.append(
                        torch.log(torch.tensor(float(len(members)), dtype=torch.float64)) + query[i] @ key[members].mean(0) / T
                    )
        losses.append(torch.stack(terms).logsumexp(0) - query[i] @ key[p] / T)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("tile_entries", [1, 25, 2**20])
def test_equals_dense_and_bounds_the_exact_loss(monkeypatch, tile_entries):
    monkeypatch.setattr(cluster_means, "_TILE_ENTRIES", tile_entries)  # of the gap
    query, key = table(5, 4, 0), table(10, 4, 1)
    pair = Pair(query, Table(key), POSITIVES)
    objective = ClusterMeans(T)
    got, expected = objective(pair, IDS), slow(query, key)
    assert_close(got, expected, rtol=1e-12, atol=0)
    for mine, theirs in zip(torch.autograd.grad(got, (query, key)), torch.autograd.grad(expected, (query, key)), strict=True):
        assert_close(mine, theirs, rtol=1e-10, atol=1e-12)
    exact = WeightedInfoNCE(T, "cluster")(pair, IDS)
    assert got < exact
    assert objective.gaps["node"].mean == pytest.approx((got - exact).item())
    before = objective.gaps["node"].mean
    objective.start_epoch(None, 2, None)
    objective(Pair(3 * query, Table(key), POSITIVES), IDS)
    assert objective.gaps["node"].mean != before


def test_a_cluster_for_each_key_is_exact():
    query, key = table(5, 4, 0), table(10, 4, 1)
    pair = Pair(query, Table(key), POSITIVES)
    each = torch.stack([torch.randperm(10, generator=torch.Generator().manual_seed(s)) for s in (0, 1)], 1)
    assert_close(ClusterMeans(T)(pair, each), WeightedInfoNCE(T, "cluster")(pair, each))


def test_ids_far_apart_cost_nothing():
    query, key = table(5, 3, 0), table(10, 3, 1)
    far = torch.where(IDS == 3, 2_000_000_000, IDS)
    assert_close(
        ClusterMeans(T)(Pair(query, Table(key), POSITIVES), far), ClusterMeans(T)(Pair(query, Table(key), POSITIVES), IDS)
    )


def test_nothing_is_parted():
    query, key = table(5, 4, 0), table(10, 4, 1)
    loss = ClusterMeans(T)(Pair(query, Table(key), POSITIVES), torch.zeros(10, 2, dtype=torch.int64))
    assert loss == 0
    assert not torch.autograd.grad(loss, query)[0].any()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: ClusterMeans(0), "temperature must be above 0"),
        (lambda: ClusterMeans(T)(Pair(table(5, 4, 0), Table(table(10, 4, 1)), POSITIVES), IDS[:9]), "ids \\[10, k\\]"),
        (
            lambda: ClusterMeans(T)(Pair(table(2, 4, 0), Table(table(3, 4, 1)), csr(torch.ones(2, 3))), IDS),
            "one positive a query",
        ),
    ],
)
def test_bad_input(make, told):
    with pytest.raises(ValueError, match=told):
        make()


def test_an_unknown_positive():
    with pytest.raises(IndexError, match="-1, which is an unknown id"):
        ClusterMeans(T)(Pair(table(2, 4, 0), Table(table(10, 4, 1)), torch.tensor([3, -1])), IDS)
