"""ProtoNCE against its formula, loop by loop in float64."""

import math

import numpy as np
import pytest
import torch

from graphcl.cluster import Clusters
from graphcl.contracts import Pair, Table
from graphcl.objectives import ProtoNCE
from tests.objectives.dense import csr

N, D = 30, 4


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(sizes=((12, 9, 8, 1), (15, 15))):
    """Unit queries and points, and clusterings with centroids as k-means leaves them: one more than there are, which is empty."""
    q, points = (torch.nn.functional.normalize(torch.randn(N, D, generator=rng(s), dtype=torch.float64), dim=1) for s in (1, 2))
    clusterings = []
    for counts in sizes:
        nearest = torch.cat([torch.full((n,), c) for c, n in enumerate(counts)])[torch.randperm(N, generator=rng(3))]
        means = torch.stack([points[nearest == c].mean(0) for c in range(len(counts))])
        centroids = torch.cat([means / means.norm(dim=1, keepdim=True), torch.ones(1, D, dtype=torch.float64)])
        clusterings.append(Clusters(centroids, nearest, 0.0))
    return q.requires_grad_(), points.requires_grad_(), clusterings


def by_hand(q, points, clusterings, positives, temperature, density):
    total = 0.0
    for found in clusterings:
        members = [[p for p in range(N) if int(found.nearest[p]) == c] for c in range(len(found.centroids))]
        kept = [c for c, each in enumerate(members) if each]
        phi = []
        for c in kept:
            own = points[members[c]].detach()
            if density == "distance":
                spread = [float((p - found.centroids[c]).norm()) for p in own]
            else:
                spread = [math.sqrt(max(float(p @ own.mean(0)), 0.0)) for p in own]
            phi.append(sum(spread) / len(own) / math.log(len(own) + 5))
        phi = [max(phi) if len(members[c]) == 1 else value for c, value in zip(kept, phi, strict=True)]
        phi = np.clip(phi, np.percentile(phi, 10), np.percentile(phi, 90))
        phi = phi / phi.mean() * temperature
        for i, row in enumerate(q):
            own = kept.index(int(found.nearest[positives[i]]))
            logits = torch.stack([row @ found.centroids[c] / value for c, value in zip(kept, phi, strict=True)])
            total = total + (math.log(N / len(kept)) + torch.logsumexp(logits, 0) - logits[own]) / N / len(clusterings)
    return total


@pytest.mark.parametrize("density", ["distance", "released"])
@pytest.mark.parametrize("tile", [1, 7 * 5, 2**20])
def test_the_formula(density, tile):
    q, points, clusterings = made()
    positives = torch.randperm(N, generator=rng(5))
    ours = ProtoNCE(0.4, density, tile_entries=tile)(Pair(q, Table(points), positives), clusterings)
    expected = by_hand(q, points, clusterings, positives, 0.4, density)
    torch.testing.assert_close(ours, expected)
    (a,), (b,) = torch.autograd.grad(ours, [q]), torch.autograd.grad(expected, [q])
    torch.testing.assert_close(a, b)


def test_no_gradient_reaches_the_keys():
    q, points, clusterings = made()
    loss = ProtoNCE(0.4)(Pair(q, Table(points), torch.arange(N)), clusterings)
    assert torch.autograd.grad(loss, [points], allow_unused=True) == (None,)


def test_tight_clusters_are_denser_by_distance_and_not_as_released():
    _, points, _ = made()
    tight, loose = torch.eye(D, dtype=torch.float64)[:2]
    spread = torch.randn(N // 2, D, generator=rng(8), dtype=torch.float64)
    with torch.no_grad():
        points[: N // 2] = torch.nn.functional.normalize(tight + 0.01 * spread, dim=1)
        points[N // 2 :] = torch.nn.functional.normalize(loose + 0.5 * spread, dim=1)
    nearest = (torch.arange(N) >= N // 2).long()
    found = Clusters(torch.stack([tight, loose]), nearest, 0.0)
    phi = {}
    for density in ("distance", "released"):
        scaled, _ = ProtoNCE(0.4, density)._prototypes(points.detach(), found)
        phi[density] = 1 / scaled.norm(dim=1)
    assert phi["distance"][0] < phi["distance"][1]
    assert phi["released"][0] > phi["released"][1]


def test_equal_rows_have_no_spread_and_stay_finite():
    q, points, _ = made()
    same = torch.ones_like(points) / 2
    found = Clusters(same[:1].detach(), torch.zeros(N, dtype=torch.int64), 0.0)
    loss = ProtoNCE(0.4)(Pair(q, Table(same), torch.arange(N)), [found])
    assert float(loss.detach()) == pytest.approx(math.log(N))


def test_what_is_refused():
    q, points, clusterings = made()
    pair = Pair(q, Table(points), torch.arange(N))
    with pytest.raises(ValueError, match="temperature"):
        ProtoNCE(0.0)
    with pytest.raises(ValueError, match="density must be one of distance, released"):
        ProtoNCE(0.2, "dense")
    with pytest.raises(ValueError, match="at least one clustering"):
        ProtoNCE(0.2)(pair, [])
    with pytest.raises(ValueError, match="one positive a query"):
        ProtoNCE(0.2)(Pair(q, Table(points), csr(torch.eye(N, dtype=torch.float64))), clusterings)
    with pytest.raises(ValueError, match="must be of the pair's keys"):
        ProtoNCE(0.2)(Pair(q, Table(points[:-1]), torch.arange(N - 1)), clusterings)
