import json

import numpy as np
import pandas as pd
import pytest

from graphcl.data import Split, describe, order_by_degree, read_interactions, split, split_files


def by_hand(rows, parts):
    """A split whose rows go where `parts` says; rows are (user, item, time)."""
    log = read_interactions(pd.DataFrame(rows, columns=["user", "item", "time"]), name="toy")
    of = np.array(parts)
    made = {name: log.take(of == name) if name in parts else None for name in ("train", "valid", "test")}
    return order_by_degree(Split("toy", **made, rule="by hand", split_seed=0))


ROWS = [
    ("a", 1, 86400.0 * 400),
    ("a", 1, 86400.0 * 401),  # a repeat within train
    ("a", 2, 86400.0 * 500),  # later than a's own test row
    ("b", 1, 86400.0 * 450),  # later than the first test row, not than b's own
    ("b", 2, 86400.0 * 460),
    ("a", 3, 86400.0 * 440),  # item 3 is cold
    ("b", 1, 86400.0 * 470),  # also in train
    ("c", 2, 86400.0 * 480),  # user c is cold
    ("d", 2, 86400.0 * 399),  # no test row
]
PARTS = ["train", "train", "train", "train", "valid", "test", "test", "test", "train"]


def test_every_number_by_hand():
    told = describe(by_hand(ROWS, PARTS))
    assert json.loads(json.dumps(told)) == told
    assert (told["users"], told["items"], told["rows"], told["pairs"]) == (4, 3, 9, 7)
    assert told["density"] == pytest.approx(7 / 12)
    assert told["time"] == ["1971-02-04T00:00:00+00:00", "1971-05-16T00:00:00+00:00"]
    assert told["ratings"] is None
    assert told["users_without_test"] == 1
    assert told["parts"]["train"] == {
        "rows": 5,
        "pairs": 4,
        "repeats": 1,
        "users": 3,
        "items": 2,
        "cold_users": 0,
        "cold_items": 0,
        "time": ["1971-02-04T00:00:00+00:00", "1971-05-16T00:00:00+00:00"],
    }
    assert (told["parts"]["valid"]["cold_users"], told["parts"]["valid"]["cold_items"]) == (0, 0)
    assert (told["parts"]["test"]["cold_users"], told["parts"]["test"]["cold_items"]) == (1, 1)
    assert told["leakage"] == {
        "pairs_in_train_and_test": 1,
        "pairs_in_train_and_valid": 0,
        "pairs_in_valid_and_test": 0,
        "train_rows_after_first_test": 2,
        "train_rows_after_own_first_test": 1,
    }


def test_without_time_and_without_parts():
    log = read_interactions(pd.DataFrame({"user": [1, 2, 2], "item": [1, 1, 2], "rating": [2, 5, 3]}))
    told = describe(split(log, rule="all"))
    assert told["time"] is None
    assert told["ratings"] == [2, 5]
    assert list(told["parts"]) == ["train"]
    assert told["users_without_test"] is None
    assert told["leakage"]["train_rows_after_first_test"] is None


def test_counters_are_not_dressed_up_as_dates():
    told = describe(
        by_hand(
            [(user, item, float(time)) for user, item, time in zip("aabb", [1, 2, 1, 2], range(4), strict=True)],
            ["train", "test"] * 2,
        )
    )
    assert told["time"] == [0, 3]


def test_splits_by_time_leak_nothing():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"user": np.repeat(np.arange(20), 10), "item": np.tile(np.arange(10), 20), "time": rng.random(200)})
    log = read_interactions(frame)
    leaks = {rule: describe(split(log, rule=rule))["leakage"] for rule in ("temporal", "global_time", "random")}
    assert leaks["global_time"]["train_rows_after_first_test"] == 0
    assert leaks["temporal"]["train_rows_after_own_first_test"] == 0
    assert leaks["temporal"]["train_rows_after_first_test"] > 0
    assert leaks["random"]["train_rows_after_own_first_test"] > 0


def test_given_files_that_overlap_are_counted():
    train = read_interactions(pd.DataFrame({"user": [1, 1, 2], "item": [1, 2, 2]}))
    test = read_interactions(pd.DataFrame({"user": [1, 2], "item": [2, 1]}))
    with pytest.warns(UserWarning, match="also in train"):
        told = describe(split_files(train, test, carve=0))
    assert told["leakage"]["pairs_in_train_and_test"] == 1


def test_pairs_that_validation_shares_are_counted():
    rows = [
        ("a", 1, 0.0),
        ("a", 2, 0.0),
        ("b", 1, 0.0),
        ("b", 2, 0.0),
        ("a", 1, 0.0),
        ("b", 3, 0.0),
        ("c", 2, 0.0),
        ("b", 3, 0.0),
        ("c", 2, 0.0),
    ]
    told = describe(by_hand(rows, ["train"] * 4 + ["valid"] * 3 + ["test"] * 2))
    counts = {key: value for key, value in told["leakage"].items() if key.startswith("pairs")}
    assert counts == {"pairs_in_train_and_test": 0, "pairs_in_train_and_valid": 1, "pairs_in_valid_and_test": 2}
    assert [told["parts"]["valid"][key] for key in ("cold_users", "cold_items")] == [1, 1]
