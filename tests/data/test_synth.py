import numpy as np
import pytest

from graphcl.data import read_interactions
from graphcl.data.synth import degrees_of, synth, synth_pairs


def sorted_counts(rows, num):
    return np.sort(np.bincount(rows, minlength=num))[::-1]


def slope(counts, exponent_from=10, ranks=slice(20, 2000)):
    """Of log count over log (rank + 10)."""
    x = np.log(np.arange(len(counts)) + exponent_from + 0.5)[ranks]
    return np.polyfit(x, np.log(counts[ranks]), 1)[0]


@pytest.mark.parametrize(("users", "items", "interactions"), [(2, 2, 2), (100, 30, 1500), (1000, 2000, 30_000), (7, 1000, 3000)])
def test_counts_are_exact_and_no_pair_stands_twice(users, items, interactions):
    found = synth_pairs(users, items, interactions, communities=2)
    assert [(column.dtype, len(column)) for column in found] == [(np.int32, interactions)] * 2
    assert len(set(zip(*map(np.ndarray.tolist, found), strict=True))) == interactions
    assert set(found[0]) == set(range(users))
    assert 0 <= found[1].min() <= found[1].max() < items


def test_users_who_have_half_of_all_items_are_filled_up():
    users, items = synth_pairs(10, 100, 500, exponent=3, communities=1)
    assert np.bincount(users).tolist() == [50] * 10
    assert len(set(zip(users.tolist(), items.tolist(), strict=True))) == 500


@pytest.mark.parametrize("exponent", [0.5, 0.8, 1.0, 1.2])
def test_the_exponent_of_items_is_recovered(exponent):
    _, items = synth_pairs(50_000, 5000, 500_000, exponent=exponent, user_exponent=0.0, communities=10)
    assert abs(slope(sorted_counts(items, 5000)) + exponent) < 0.05


def test_the_exponent_of_users_is_recovered():
    users, _ = synth_pairs(5000, 50_000, 500_000, user_exponent=0.7)
    counts = sorted_counts(users, 5000)
    wanted = (np.arange(5000) + 10) ** -0.7
    wanted = 1 + wanted * (495_000 / wanted.sum())
    assert np.abs(counts - wanted).max() <= 1


@pytest.mark.parametrize(
    ("num", "total", "most"), [(4, 4, 1), (4, 40, 10), (5, 17, 4), (1000, 1000, 9), (1000, 8999, 9), (3, 8, 3)]
)
def test_degrees_sum_up_and_keep_their_bounds(num, total, most):
    degrees = degrees_of(num, total, 2.0, most)
    assert degrees.sum() == total
    assert 1 <= degrees.min() <= degrees.max() <= most


@pytest.mark.parametrize("affinity", [0.0, 0.5, 1.0])
def test_users_draw_from_their_own_community(affinity):
    """Two users share items by chance, and more if they are of one community, which one in four is."""
    users, items = synth_pairs(800, 2000, 16_000, exponent=0, user_exponent=0, communities=4, affinity=affinity)
    has = np.zeros((800, 2000), dtype=np.float32)
    has[users, items] = 1
    shared = has @ has.T
    np.fill_diagonal(shared, 0)
    own, other = affinity / 500 + (1 - affinity) / 2000, (1 - affinity) / 2000  # chance of an item at one of 20 draws
    together, apart = 400 * (500 * own**2 + 1500 * other**2), 400 * (1000 * own * other + 1000 * other**2)
    # 199 users of the own community and 600 of others; drawing again what a user has already costs a little
    assert shared.sum() / 800 == pytest.approx(199 * together + 600 * apart, rel=0.05)
    if affinity == 1:
        assert (shared > 0).sum(axis=1).max() < 200


def test_the_seed_decides_everything(tmp_path):
    size = {"users": 100, "items": 200, "interactions": 1000}
    for ending in ("csv", "parquet"):
        one, two, other = (
            synth(tmp_path / f"{name}.{ending}", **size, seed=seed).read_bytes() for name, seed in (("a", 1), ("b", 1), ("c", 2))
        )
        assert one == two
        assert one != other
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{n}.{e}" for n in "abc" for e in ("csv", "parquet")]
    a, b = (read_interactions(tmp_path / f"a.{ending}") for ending in ("csv", "parquet"))
    users, items = synth_pairs(**size, seed=1)
    for log in (a, b):
        assert log.user_ids.ids[log.users].tolist() == users.tolist()
        assert log.item_ids.ids[log.items].tolist() == items.tolist()
    synth_pairs(**size, seed=2**63 - 1)


def test_rows_come_in_random_order():
    users, _ = synth_pairs(1000, 500, 20_000)
    assert (np.diff(users) == 0).mean() < 0.01
    heaviest = np.bincount(users).argmax()
    assert np.flatnonzero(users == heaviest).std() == pytest.approx(20_000 / 12**0.5, rel=0.2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"users": 1}, r"users must lie in 2\.\."),
        ({"items": 2**31}, r"items must lie in 2\.\.2147483647, got 2147483648"),
        (
            {"interactions": 9},
            r"interactions must lie in 10\.\.100 \(at least one a user, at most half of the items each\), got 9",
        ),
        ({"interactions": 101}, r"interactions must lie in 10\.\.100 .* got 101"),
        ({"communities": 0}, "communities must lie in 1"),
        ({"exponent": -0.1}, r"exponent must lie in 0\.\.3, got -0\.1"),
        ({"user_exponent": float("nan")}, r"user_exponent must lie in 0\.\.3, got nan"),
        ({"affinity": 1.5}, r"affinity is a probability, 0\.\.1, got 1\.5"),
        ({"seed": -1}, r"seed must lie in 0\.\.2\^63 - 1, got -1"),
        ({"path": "x.npz"}, r"x\.npz: a made-up log is written as \.csv or \.parquet, not '\.npz'"),
    ],
)
def test_bounds_of_the_arguments(tmp_path, change, said):
    arguments = {"path": "x.csv", "users": 10, "items": 20, "interactions": 50, **change}
    arguments["path"] = tmp_path / arguments["path"]
    with pytest.raises(ValueError, match=said):
        synth(**arguments)
    assert list(tmp_path.iterdir()) == []
