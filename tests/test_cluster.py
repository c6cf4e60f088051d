"""k-means against Lloyd's iteration written out, row by row."""

import pytest
import torch
from torch.testing import assert_close

from graphcl import cluster
from graphcl.cluster import kmeans


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(n: int = 60, d: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, d, generator=generator(seed), dtype=torch.float64)


def lloyd(x: torch.Tensor, start: torch.Tensor, metric: str = "euclidean", iterations: int = 1000):
    """Centroids and nearest ones when nothing moves any more, or after so many moves."""
    unit = [row / row.square().sum().sqrt() for row in x]
    x = torch.stack(unit) if metric == "cosine" else x
    centroids = [c / c.square().sum().sqrt() if metric == "cosine" else c for c in start]
    before = None
    for moves in range(iterations + 1):
        nearest = [min(range(len(centroids)), key=lambda k: float((row - centroids[k]).square().sum())) for row in x]
        if nearest == before or moves == iterations:
            break
        before = nearest
        for k in range(len(centroids)):
            members = [row for row, own in zip(x, nearest, strict=True) if own == k]
            assert members, "no test of empty clusters"
            centroids[k] = sum(members) / len(members)
            if metric == "cosine":
                centroids[k] = centroids[k] / centroids[k].square().sum().sqrt()
    inertia = sum(float((row - centroids[k]).square().sum()) for row, k in zip(x, nearest, strict=True))
    return torch.stack(centroids), torch.tensor(nearest), inertia


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("entries", [2**20, 28, 1], ids=["one tile", "tiles of 7 rows", "row by row"])
@pytest.mark.parametrize("iterations", [0, 1, 100])
def test_equals_lloyds_iteration(metric, entries, iterations, monkeypatch):
    monkeypatch.setattr(cluster, "_ENTRIES", entries)
    x = rows()
    found = kmeans(x, 4, start=x[:4], metric=metric, max_iterations=iterations, tolerance=0, rng=generator())
    centroids, nearest, inertia = lloyd(x, x[:4], metric, iterations)
    assert_close(found.centroids, centroids, rtol=1e-12, atol=1e-13)
    assert torch.equal(found.nearest, nearest)
    assert found.inertia == pytest.approx(inertia, rel=1e-12)


def test_distances_are_never_all_held(monkeypatch):
    monkeypatch.setattr(cluster, "_ENTRIES", 100)
    held, product = [], torch.addmm
    monkeypatch.setattr(torch, "addmm", lambda *args, **options: held.append(product(*args, **options)) or held[-1])
    kmeans(rows(), 10, rng=generator())
    assert max(t.numel() for t in held) == 100


def test_float32_far_from_the_origin():
    """Two groups that differ in the fifth digit: |c|^2 - 2 x c of the rows as they are cannot tell them apart."""
    x = rows(40)
    x[:20] += 20
    x = (1e5 + x).float()
    found = kmeans(x, 2, start=x[[0, 39]], rng=generator())
    assert found.nearest.tolist() == [0] * 20 + [1] * 20
    assert_close(found.centroids, torch.stack([x[:20].double().mean(0), x[20:].double().mean(0)]).float(), rtol=1e-7, atol=0.02)


def test_stops_when_little_is_gained(monkeypatch):
    """From where it ended, an iteration gains nothing; from elsewhere a coarse tolerance ends sooner than a fine one."""
    calls, nearest = [], cluster.nearest_centroids
    monkeypatch.setattr(cluster, "nearest_centroids", lambda *args: calls.append(1) or nearest(*args))

    def count(**options):
        calls.clear()
        found = kmeans(rows(500), 20, max_iterations=1000, rng=generator(), **options)
        return len(calls), found

    (fine, found), (coarse, worse) = count(tolerance=0), count(tolerance=0.05)
    assert coarse < fine
    assert found.inertia < worse.inertia
    again, same = count(start=found.centroids, tolerance=0)
    assert again == 2
    assert torch.equal(same.nearest, found.nearest)
    assert_close(same.centroids, found.centroids, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_empty_clusters_take_rows(metric):
    """Of equal centroids the first takes every row; the others are sent to rows that rng draws, and end with rows of their own."""
    x = rows()
    start = x[:1].repeat(8, 1)
    found = kmeans(x, 8, start=start, metric=metric, rng=generator(1))
    assert (torch.bincount(found.nearest, minlength=8) > 0).all()
    again, other = (kmeans(x, 8, start=start, metric=metric, rng=generator(seed)) for seed in (1, 2))
    assert torch.equal(found.centroids, again.centroids)
    assert not torch.equal(found.centroids, other.centroids)
    first = kmeans(x, 8, start=start, metric=metric, max_iterations=1, rng=generator(1)).centroids
    placed = x / x.norm(dim=1, keepdim=True) if metric == "cosine" else x
    distances = torch.cdist(first[1:], placed)
    assert distances.min(1).values.max() < 1e-6  # each is a row
    assert len(distances.argmin(1).unique()) == 7  # and no two the same


def test_an_iteration_that_gains_little_does_not_end_with_an_empty_cluster():
    x = torch.tensor([0.0] * 4 + [10.0, 10.0, 4.0])[:, None]
    for seed in range(10):
        found = kmeans(x, 3, start=torch.zeros(3, 1), tolerance=0.9, rng=generator(seed))
        assert (torch.bincount(found.nearest, minlength=3) > 0).all()


def test_seeds_are_drawn_in_proportion_to_the_squared_distance():
    """Without replacement: a row at distance 0 never, one of three times the squared distance three times as often first."""
    squared, rng = torch.tensor([1.0, 0.0, 3.0]), generator()
    first = [cluster._seeds(squared, 1, rng).tolist() for _ in range(4000)]
    assert first.count([1]) == 0
    assert first.count([2]) / 4000 == pytest.approx(0.75, abs=0.03)
    assert {tuple(cluster._seeds(squared, 3, rng).sort().values.tolist()) for _ in range(50)} == {(0, 2)}


def test_more_clusters_than_different_rows():
    x = rows(3).repeat_interleave(4, 0)
    found = kmeans(x, 5, rng=generator())
    assert found.inertia == 0
    assert_close(found.centroids[found.nearest], x, rtol=0, atol=1e-15)
    assert len(found.nearest.unique()) == 3
    assert found.centroids.isfinite().all()


def test_one_cluster_and_one_a_row():
    x = rows(7)
    one, each = kmeans(x, 1, rng=generator()), kmeans(x, 7, rng=generator())
    assert_close(one.centroids[0], x.mean(0), rtol=1e-12, atol=1e-14)
    assert one.inertia == pytest.approx(float((x - x.mean(0)).square().sum()), rel=1e-12)
    assert each.inertia < 1e-25
    assert sorted(each.nearest.tolist()) == list(range(7))


def test_opposed_rows_have_no_mean_direction():
    """A cluster of two opposed rows keeps its centroid instead of dividing by zero."""
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    found = kmeans(x, 1, start=torch.tensor([[0.0, 2.0]], dtype=torch.float64), metric="cosine", rng=generator())
    assert found.centroids.tolist() == [[0, 1]]
    assert found.inertia == pytest.approx(4)


def test_a_function_of_its_arguments_and_rng():
    x = rows(200).float()
    kept, state = x.clone(), torch.get_rng_state()
    first, second, other = (kmeans(x, 12, rng=generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first.centroids, second.centroids)
    assert torch.equal(first.nearest, second.nearest)
    assert not torch.equal(first.centroids, other.centroids)
    assert torch.equal(x, kept)
    assert torch.equal(torch.get_rng_state(), state)
    assert (first.centroids.dtype, first.nearest.dtype) == (torch.float32, torch.int64)


@pytest.mark.parametrize("where", ["row", "start row"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_rows_that_are_not_finite_are_refused(where, value):
    x, start = rows(), rows(4)
    (x if where == "row" else start)[2, 1] = value
    with pytest.raises(ValueError, match=f"^{where} 2 is not finite"):
        kmeans(x, 4, start=start, rng=generator())


@pytest.mark.parametrize("where", ["row", "start row"])
def test_rows_without_direction_are_refused(where):
    x, start = rows(), rows(4)
    (x if where == "row" else start)[2] = 0
    with pytest.raises(ValueError, match=f"^{where} 2 is zero and has no direction"):
        kmeans(x, 4, start=start, metric="cosine", rng=generator())
    kmeans(x, 4, start=start, rng=generator())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((rows(), 0), "between 1 and the number of rows, 60, got 0"),
        ((rows(), 61), "between 1 and the number of rows, 60, got 61"),
        ((rows()[:0], 1), "between 1 and the number of rows, 0, got 1"),
        ((rows()[0], 1), r"a table \[N, d\] of floats, got torch.float64 of shape \(5,\)"),
        ((rows().long(), 1), "of floats, got torch.int64"),
    ],
)
def test_tables_and_counts_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        kmeans(*arguments, rng=generator())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "manhattan"}, "metric must be one of euclidean, cosine, got 'manhattan'"),
        ({"start": rows(3)}, r"start must be of shape \(4, 5\), got \(3, 5\)"),
        ({"max_iterations": -1}, "max_iterations must be 0 or more"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        kmeans(rows(), 4, rng=generator(), **options)
