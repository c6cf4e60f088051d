"""ProtoNCE against loops over clusters in float64."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from graphcl.cluster import Clusters, kmeans
from graphcl.contracts import Pair
from graphcl.objectives import ProtoNCE
from tests.objectives.dense import Table, csr, table


def clusters(points: torch.Tensor, count: int, seed: int = 0) -> Clusters:
    return kmeans(points, count, rng=torch.Generator().manual_seed(seed))


def hand_made(nearest: list[int], count: int, width: int = 4) -> Clusters:
    return Clusters(table(count, width, 9).detach(), torch.tensor(nearest), 0.0)


def densities(points: torch.Tensor, found: Clusters, density: str, temperature: float) -> dict[int, float]:
    """phi of each cluster that has members."""
    raw, sizes = {}, {}
    for c in range(len(found.centroids)):
        members = [x.detach() for x, own in zip(points, found.nearest.tolist(), strict=True) if own == c]
        if not members:
            continue
        mean = sum(members) / len(members)
        sizes[c] = len(members)
        if density == "distance":
            values = [math.sqrt(float((x - found.centroids[c]).square().sum())) for x in members]
        else:
            values = [math.sqrt(max(0.0, float((x * mean).sum()))) for x in members]
        raw[c] = sum(values) / len(values) / math.log(len(members) + 5)
    largest = max((value for c, value in raw.items() if sizes[c] > 1), default=0.0)
    raw = {c: largest if sizes[c] == 1 else value for c, value in raw.items()}
    low, high = np.percentile(list(raw.values()), [10, 90])
    clipped = {c: min(max(value, low), high) for c, value in raw.items()}
    mean = sum(clipped.values()) / len(clipped)
    return {c: value / mean * temperature for c, value in clipped.items()}


def slow(query, points, own, clusterings, density="distance", temperature=0.4) -> torch.Tensor:
    total = 0
    for found in clusterings:
        phi = densities(points, found, density, temperature)
        unit = {c: found.centroids[c] / found.centroids[c].square().sum().sqrt() for c in phi}
        for q, p in zip(query, own.tolist(), strict=True):
            mine = found.nearest[p].item()
            top = (q * unit[mine]).sum() / phi[mine]
            among = sum(((q * unit[c]).sum() / phi[c]).exp() for c in phi)
            total = total - (top.exp() / (len(points) / len(phi) * among)).log() / len(query)
    return total / len(clusterings)


@pytest.mark.parametrize("density", ["distance", "released"])
@pytest.mark.parametrize("tile_entries", [1, 50, 2**20])
def test_equals_loops_over_clusters(density, tile_entries):
    query, points = table(30, 4, 0), table(40, 4, 1)
    own = torch.randint(40, (30,), generator=torch.Generator().manual_seed(2))
    clusterings = [clusters(points, 3), clusters(points, 12, 1)]
    assert (torch.bincount(clusterings[1].nearest) == 1).any()  # a cluster of one takes the largest density
    got = ProtoNCE(0.4, density, tile_entries)(Pair(query, Table(points), own), clusterings)
    expected = slow(query, points, own, clusterings, density)
    assert_close(got, expected, rtol=1e-10, atol=0)
    (mine,), (theirs,) = torch.autograd.grad(got, query), torch.autograd.grad(expected, query)
    assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_counted_anchors():
    query, points = table(5, 4, 0), table(8, 4, 1)
    own, counts = torch.tensor([3, 0, 7, 7, 1]), torch.tensor([2, 0, 1, 3, 1])
    repeated = torch.repeat_interleave(torch.arange(5), counts)
    got = ProtoNCE(0.4)(Pair(query, Table(points), own, weights=counts), [clusters(points, 3)])
    assert_close(got, slow(query[repeated], points, own[repeated], [clusters(points, 3)]), rtol=1e-10, atol=0)


def test_no_gradient_reaches_the_points():
    query, points = table(5, 4, 0), table(8, 4, 1)
    loss = ProtoNCE(0.4)(Pair(query, Table(points), torch.arange(5)), [clusters(points, 3)])
    assert torch.autograd.grad(loss, points, allow_unused=True) == (None,)


@pytest.mark.parametrize("density", ["distance", "released"])
def test_empty_clusters_have_no_say(density):
    """Clusters 0, 2 and 5 are empty; the same clustering without them gives the same loss."""
    query, points, own = table(6, 4, 0), table(9, 4, 1), torch.tensor([0, 1, 2, 3, 4, 8])
    whole = hand_made([1, 1, 1, 3, 3, 4, 4, 4, 4], 6)
    full = Clusters(whole.centroids[[1, 3, 4]], torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2]), 0.0)
    objective = ProtoNCE(0.4, density)
    pair = Pair(query, Table(points), own)
    assert_close(objective(pair, [whole]), objective(pair, [full]), rtol=1e-14, atol=0)
    assert_close(objective(pair, [whole]), slow(query, points, own, [whole], density), rtol=1e-10, atol=0)


def test_released_turns_negative_scores_to_0():
    """Three members lie against their mean's direction: the score of the first is 0 instead of the root of a negative number."""
    points = torch.tensor([[-1.0, 0.0], [3.0, 0.0], [3.0, 0.1], [0.0, 1.0], [0.0, 2.0]], dtype=torch.float64)
    found = Clusters(torch.eye(2, dtype=torch.float64), torch.tensor([0, 0, 0, 1, 1]), 0.0)
    assert float((points[0] * points[:3].mean(0)).sum()) < 0
    query, own = table(5, 2, 0), torch.arange(5)
    got = ProtoNCE(0.4, "released")(Pair(query, Table(points), own), [found])
    assert_close(got, slow(query, points, own, [found], "released"), rtol=1e-10, atol=0)


def test_tight_clusters_are_dense_only_by_distance():
    """Of a tight and a loose cluster around two axes "distance" gives the tight one the smaller phi, "released" the larger."""
    tight, loose = [[1.0, 0.01], [1.0, -0.01]], [[0.6, 0.8], [-0.6, 0.8]]
    points = torch.tensor(tight + loose, dtype=torch.float64)
    found = Clusters(torch.tensor([[1.0, 0.0], [0.0, 0.8]], dtype=torch.float64), torch.tensor([0, 0, 1, 1]), 0.0)
    for density, order in (("distance", 1), ("released", -1)):
        rows, _ = ProtoNCE(0.4, density)._prototypes(points, found)
        of_tight, of_loose = 1 / rows.norm(dim=1)
        assert order * (of_loose - of_tight) > 0
        assert_close((of_tight + of_loose) / 2, torch.tensor(0.4, dtype=torch.float64))


@pytest.mark.parametrize("density", ["distance", "released"])
@pytest.mark.parametrize("nearest", [[0, 1, 2, 3, 4, 5, 6], [0] * 7], ids=["one each", "all in one"])
def test_clusters_without_spread(density, nearest):
    """Each point on its centroid: every density is 0, and phi is the temperature."""
    points = table(7, 4, 1).detach()
    found = Clusters(points, torch.tensor(nearest), 0.0)
    query = table(7, 4, 0)
    loss = ProtoNCE(0.4, density)(Pair(query, Table(points), torch.arange(7)), [found])
    assert loss.isfinite()
    if density == "distance" and len(set(nearest)) == 7:
        unit = points / points.norm(dim=1, keepdim=True)
        expected = torch.nn.functional.cross_entropy(query @ unit.T / 0.4, torch.arange(7))
        assert_close(loss, expected, rtol=1e-10, atol=0)
    if len(set(nearest)) == 1:
        assert loss.item() == pytest.approx(math.log(7))


def test_equal_rows_among_others_keep_a_temperature():
    """Half of the clusters hold equal rows, so the 10th percentile of densities is 0; phi stays at a hundredth of the mean."""
    points = table(12, 4, 1).detach()
    points[1], points[3] = points[0], points[2]
    found = hand_made([0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3], 4)
    found.centroids[0], found.centroids[1] = points[0], points[2]
    rows, own = ProtoNCE(0.4)._prototypes(points, found)
    assert_close(rows[:2].norm(dim=1), torch.full((2,), 100 / 0.4, dtype=torch.float64))
    assert own.tolist() == found.nearest.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_zero_rows_at_a_cold_temperature(dtype):
    query, points = table(6, 4, 0).detach().to(dtype), table(9, 4, 1).detach().to(dtype)
    query[1], points[2] = 0, 0
    query.requires_grad_()
    for density in ("distance", "released"):
        loss = ProtoNCE(0.01, density)(Pair(query, Table(points), torch.arange(6)), [clusters(points, 4), clusters(points, 2)])
        assert loss.isfinite()
        assert torch.autograd.grad(loss, query)[0].isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"density": "faiss"}, "one of distance, released, got 'faiss'"),
    ],
)
def test_settings_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        ProtoNCE(**{"temperature": 0.4, **options})


def test_calls_are_checked():
    query, points = table(5, 4, 0), table(8, 4, 1)
    pair, found = Pair(query, Table(points), torch.arange(5)), clusters(points, 3)
    objective = ProtoNCE(0.4)
    with pytest.raises(ValueError, match="at least one clustering"):
        objective(pair, [])
    with pytest.raises(ValueError, match=r"of the pair's keys, \(8, 4\), got \(7,\) ids"):
        objective(pair, [found, Clusters(found.centroids, found.nearest[:7], 0.0)])
    with pytest.raises(ValueError, match=r"centroids of shape \(3, 2\)"):
        objective(pair, [Clusters(found.centroids[:, :2], found.nearest, 0.0)])
    with pytest.raises(ValueError, match="one positive a query"):
        objective(Pair(query, Table(points), csr(torch.eye(5, 8))), [found])
    with pytest.raises(IndexError, match="-1, which is an unknown id"):
        objective(Pair(query, Table(points), torch.tensor([0, 1, -1, 2, 3])), [found])
