"""Histories from files and what is held out of them."""

import gzip
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from graphcl.data.read import read_interactions
from graphcl.data.sequences import SequenceSplit, load_sequences, split_sequences
from graphcl.sequence import NextItems
from tests.test_sequence import as_lists

DATA = os.environ.get("GRAPHCL_DATA", "")
HISTORIES = {1: [7, 8, 7, 9], 2: [9, 8], 3: [8, 9, 10, 11, 8]}
ROWS = [(user, item) for user, items in HISTORIES.items() for item in items]
TEXTS = {
    "a.txt.gz": "".join(f"{user} {' '.join(map(str, items))}\n" for user, items in HISTORIES.items()),
    "b.txt": "".join(f"{user} {item}\n" for user, item in ROWS),
    "c.inter.gz": "user_id:token\titem_id:token\n" + "".join(f"{user}\t{item}\n" for user, item in ROWS),
    "d.csv": "user,item,time\n" + "".join(f"{u},{i},{t}\n" for t, (u, i) in reversed(list(enumerate(ROWS)))),
}


def written(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def by_id(made: SequenceSplit, histories=None) -> dict:
    histories = made.log if histories is None else histories
    return {
        int(user): made.log.item_ids.ids[items].tolist()
        for user, items in zip(made.log.user_ids.ids, as_lists(histories), strict=True)
    }


def guessed(made: SequenceSplit, held_out: NextItems | None) -> list[tuple[int, list[int], int]]:
    """User, history, target by the file's ids."""
    assert held_out is not None
    users, items = made.log.user_ids.ids, made.log.item_ids.ids
    found = []
    for row, (user, target) in enumerate(zip(held_out.users.tolist(), held_out.targets.tolist(), strict=True)):
        history = held_out.histories(held_out.users.new_tensor([row]))[0][0]
        found.append((int(users[user]), items[history].tolist(), int(items[target])))
    return sorted(found)


@pytest.mark.parametrize("name", TEXTS)
def test_every_format_gives_the_same_histories(tmp_path, name):
    assert by_id(load_sequences(written(tmp_path / name, TEXTS[name]))) == HISTORIES


def test_leave_one_out(tmp_path):
    made = load_sequences(written(tmp_path / "b.txt", TEXTS["b.txt"]))
    assert guessed(made, made.test) == [(1, [7, 8, 7], 9), (3, [8, 9, 10, 11], 8)]
    assert guessed(made, made.valid) == [(1, [7, 8], 7), (3, [8, 9, 10], 11)]
    assert by_id(made, made.train) == {1: [7, 8], 2: [9, 8], 3: [8, 9, 10]}  # user 2 is too short and only trains
    assert made.rule == "leave_one_out"


TIMED = pd.DataFrame(
    [("a", 1, 0), ("a", 2, 30), ("a", 3, 75), ("a", 1, 85), ("a", 4, 95), ("b", 1, 10), ("b", 2, 82), ("c", 5, 88), ("c", 1, 99), ("d", 2, 60)],
    columns=["user", "item", "time"],
)  # fmt: skip


def timed(**options):
    made = load_sequences(TIMED, rule="global_time", **options)

    def of(held_out):
        if held_out is None:
            return None
        named = zip(made.log.user_ids.ids[held_out.users.numpy()], made.log.item_ids.ids[held_out.targets.numpy()], strict=True)
        return [(user, int(item), int(length)) for (user, item), length in zip(named, held_out.lengths, strict=True)]

    return made, of(made.valid), of(made.test)


def test_global_time_by_the_first_item_after_a_cut():
    made, valid, test = timed(cuts=(70, 84))
    assert as_lists(made.train) == [[0, 1], [0], [], [1]]
    assert valid == [("a", 3, 2), ("b", 2, 1)]
    assert test == [("a", 1, 3)]  # c had nothing before its first item


def test_global_time_by_every_item_after_a_cut():
    _, valid, test = timed(cuts=(70, 84), targets="all")
    assert valid == [("a", 3, 2), ("b", 2, 1)]
    assert test == [("a", 1, 3), ("a", 4, 4), ("c", 1, 1)]


def test_global_time_by_shares():
    """Ten rows by time: 0 10 30 60 75 82 85 88 95 99."""
    made, valid, test = timed(ratios=(0.5, 0.3, 0.2), targets="all")
    assert len(made.train.items) == 5
    assert valid == [("a", 1, 3), ("b", 2, 1)]
    assert test == [("a", 4, 4), ("c", 1, 1)]
    made, valid, _ = timed(ratios=(0.8, 0.2))
    assert (valid, len(made.train.items)) == (None, 8)


def test_training_holds_nothing_that_is_held_out():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"user": rng.integers(0, 40, 600), "item": rng.integers(0, 30, 600), "time": rng.random(600)})
    for options in ({}, {"rule": "global_time"}, {"rule": "global_time", "targets": "all"}):
        made = load_sequences(frame, **options)
        for user, (train, whole) in enumerate(zip(as_lists(made.train), as_lists(made.log), strict=True)):
            assert whole[: len(train)] == train
            held = [
                p - int(made.log.pointers[user])
                for part in (made.valid, made.test)
                for p, u in zip(part.places, part.users, strict=True)
                if u == user
            ]
            assert all(place >= len(train) for place in held)


def test_all_trains_on_everything():
    made = load_sequences(TIMED, rule="all")
    assert made.train is made.log
    assert made.valid is made.test is None


def test_thresholds_go_before_the_split():
    frame = TIMED.assign(rating=[5, 1, 5, 5, 5, 5, 5, 5, 5, 5])
    made = load_sequences(frame, min_rating=3)
    assert made.log.item_ids.ids[made.log.items[:4]].tolist() == [1, 3, 1, 4]
    assert load_sequences(read_interactions(frame), min_rating=3).log.items.equal(made.log.items)
    assert load_sequences(frame, k_core=2, rule="all").log.user_ids.ids.tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"rule": "random"}, "sequences have no split rule 'random'; known: leave_one_out, global_time, all"),
        ({"rule": "global_tim"}, "did you mean 'global_time'"),
        ({"ratios": (0.8, 0.2)}, "ratios: for split rule 'global_time' alone, not for 'leave_one_out'"),
        ({"targets": "all"}, "targets: for split rule 'global_time' alone"),
        ({"rule": "global_time", "targets": "last"}, "targets must be 'first' or 'all', got 'last'"),
        ({"rule": "global_time", "ratios": (0.8, 0.2), "cuts": (3,)}, "give ratios or cuts, not both"),
        ({"rule": "global_time", "cuts": (3, 1000)}, "interactions: the cuts 3, 1000 leave nothing to test"),
        ({"rule": "global_time", "cuts": (-1,)}, "leave nothing to train"),
        ({"rule": "global_time", "cuts": (9, 3)}, "cuts must be in order of time"),
        ({"split_seed": 3}, "split_seed cannot be set for sequences .histories are split without a draw"),
        ({"carve": 0.1}, "carve cannot be set for sequences"),
    ],
)
def test_what_is_refused(options, told):
    with pytest.raises(ValueError, match=told):
        load_sequences(TIMED, **options)


def test_what_cannot_be_split(tmp_path):
    with pytest.raises(ValueError, match="needs a time column"):
        split_sequences(read_interactions(TIMED.drop(columns="time")), rule="global_time")
    with pytest.raises(ValueError, match="no user has three rows"):
        load_sequences(TIMED[TIMED["user"] != "a"])
    with pytest.raises(ValueError, match="only one item"):
        load_sequences(TIMED.assign(item=1))
    made = load_sequences(TIMED)
    assert load_sequences(made) is made
    with pytest.raises(ValueError, match="is split already, so rule cannot be set"):
        load_sequences(made, rule="all")
    with pytest.raises(ValueError, match="is read already, so user_col cannot be set"):
        load_sequences(read_interactions(TIMED), user_col="user")
    sparse.save_npz(tmp_path / "log.npz", sparse.eye(3, format="csr"))
    with pytest.raises(ValueError, match="a matrix keeps no order of a user's items"):
        load_sequences(tmp_path / "log.npz")
    (tmp_path / "log.npz").unlink()
    for name in ("train", "test"):
        written(tmp_path / f"{name}.txt", TEXTS["b.txt"])
    with pytest.raises(ValueError, match="come already split; sequences need a whole log"):
        load_sequences(tmp_path)
    for name, held in (("gowalla", "already split"), ("hetero/acm", "a graph of labelled nodes")):
        with pytest.raises(ValueError, match=f"is {held}, but sequences need a whole log"):
            load_sequences(name)
    with pytest.raises(ValueError, match="did you mean 'mclrec_Yelp'"):
        load_sequences("mclrec_yelp")


# --- the registered sets ----------------------------------------------------------------------------------------------------


def here(name: str) -> SequenceSplit:
    if not (Path(DATA) / "sequential" / name).is_dir():
        pytest.skip(f"$GRAPHCL_DATA/sequential/{name} is not here")
    return load_sequences(name)


@pytest.mark.parametrize(
    ("name", "users", "items", "rows", "repeats", "back"),
    [
        ("mclrec_Amazon_Beauty", 22_363, 12_101, 198_502, 0, 0),
        ("mclrec_Amazon_Sports_and_Outdoors", 35_598, 18_357, 296_337, 0, 0),
        ("mclrec_Yelp", 30_431, 20_033, 316_354, 11_830, 0.0666),
        ("sracl_Beauty", 22_363, 12_101, 198_502, 0, 0),
        ("sracl_Sports", 35_598, 18_357, 296_337, 0, 0),
        ("sracl_Office", 4_905, 2_420, 53_258, 0, 0),
    ],
)
def test_counts_of_the_registered_sets(name, users, items, rows, repeats, back):
    made = here(name)
    assert (made.log.num_users, made.log.num_items, len(made.log.items)) == (users, items, rows)
    assert len(made.train.items) == rows - 2 * users  # all have five rows or more
    assert made.log.user_ids.ids.tolist() == list(range(1, users + 1))
    codes = made.log.users * items + made.log.items
    assert rows - len(codes.unique()) == repeats
    test = made.test
    seen = set((made.log.users * items + made.log.items)[~np.isin(np.arange(rows), test.places)].tolist())
    share = np.mean([code in seen for code in (test.users * items + test.targets).tolist()])
    assert share == pytest.approx(back, abs=5e-5)


def test_both_files_of_a_set_hold_the_same():
    made = here("mclrec_Yelp")
    other = load_sequences(Path(DATA) / "sequential" / "mclrec_Yelp" / "Yelp.txt.gz")
    assert other.log.items.equal(made.log.items)
    assert other.log.pointers.equal(made.log.pointers)
    assert (other.log.item_ids.ids == made.log.item_ids.ids).all()


def test_ml_100k_has_times():
    try:
        made = load_sequences("ml-100k")
    except FileNotFoundError:
        pytest.skip("ml-100k is not here")
    assert (made.log.num_users, made.log.num_items, len(made.log.items)) == (942, 1447, 55_375)
    assert made.citation
    timed = load_sequences("ml-100k", rule="global_time", min_rating=1)
    assert len(timed.log.items) == 100_000
    assert len(timed.train.items) == pytest.approx(80_000, abs=200)
