import dataclasses
import hashlib
import re
import warnings
from collections import Counter, defaultdict

import numpy as np
import pandas as pd
import pytest

from graphcl.data import PROTOCOLS, k_core, order_by_degree, plan, protocol, read_interactions, refit_plan, split, split_files
from graphcl.data.rules import held_out, quantile_cuts
from graphcl.data.split import Split, _first_places, over_one_vocabulary

rng = np.random.default_rng(3)
FRAME = pd.DataFrame(
    {
        "user": np.repeat(np.arange(100, 125), np.arange(1, 26)),  # user 100 + n has n + 1 rows
        "item": np.concatenate([rng.permutation(40)[:n] for n in range(1, 26)]),
        "time": rng.permutation(325) + 1000.0,
    }
).sample(frac=1, random_state=0, ignore_index=True)


def log(frame=FRAME, **columns):
    return read_interactions(frame.assign(**columns))


def pairs(part):
    return list(zip(part.user_ids.ids[part.users].tolist(), part.item_ids.ids[part.items].tolist(), strict=True))


def by_user(part):
    grouped = defaultdict(list)
    for user, item in pairs(part):
        grouped[user].append(item)
    return grouped


def slow_sizes(n, ratios):
    """Counts of validation and test, by the rule in words: rounded down, at least one, test first, one left to train."""
    counts = []
    left = n
    for tenths in (ratios[2], ratios[1]):
        count = n * round(tenths * 100) // 100
        if tenths and not count:
            count = 1
        count = min(count, max(left - 1, 0))
        left -= count
        counts.append(count)
    return counts[1], counts[0]


# --- sizes ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratios", [(0.8, 0.1, 0.1), (0.7, 0.1, 0.2), (0.71, 0, 0.29), (0.2, 0.4, 0.4)])
@pytest.mark.parametrize("rule", ["random", "temporal"])
def test_each_user_is_parted_in_the_ratio(rule, ratios):
    made = split(log(), rule=rule, ratios=ratios)
    parts = {name: by_user(part) for name, part in made.parts.items()}
    for n in range(1, 26):
        valid, test = slow_sizes(n, ratios)
        sizes = [len(parts.get(name, {}).get(99 + n, [])) for name in ("train", "valid", "test")]
        assert sizes == [n - valid - test, valid, test]


def test_sizes_count_0_29_of_100_as_29():
    valid, test = held_out(np.array([100, 10, 1, 2, 3]), (0.42, 0.29, 0.29))
    assert test.tolist() == [29, 2, 0, 1, 1]
    assert valid.tolist() == [29, 2, 0, 0, 1]


def test_parts_are_disjoint_and_lose_nothing():
    for rule in ("random", "temporal", "global_time", "leave_one_out"):
        made = split(log(), rule=rule)
        joined = [pair for part in made.parts.values() for pair in pairs(part)]
        assert len(set(joined)) == len(joined) == 325
        assert set(joined) == set(pairs(log()))
        assert made.rule == rule


# --- which pairs ------------------------------------------------------------------------------------------------------------


def test_temporal_holds_out_the_latest():
    made = split(log())
    assert made.rule == "temporal"
    for user, rows in FRAME.sort_values("time").groupby("user"):
        valid, test = slow_sizes(len(rows), (0.8, 0.1, 0.1))
        items = rows["item"].tolist()
        end = len(items) - test
        assert set(by_user(made.test)[user]) == set(items[end:])
        assert set(by_user(made.valid)[user]) == set(items[end - valid : end])


def test_leave_one_out_by_time_and_by_place():
    timed = split(log(), rule="leave_one_out")
    placed = split(log(FRAME.drop(columns="time")), rule="leave_one_out")
    for user, rows in FRAME.groupby("user"):
        for made, items in ((timed, rows.sort_values("time")["item"].tolist()), (placed, rows["item"].tolist())):
            assert by_user(made.test)[user] == (items[-1:] if len(items) > 1 else [])
            assert by_user(made.valid)[user] == (items[-2:-1] if len(items) > 2 else [])
    assert split(log(), rule="leave_one_out", ratios=(0.9, 0.1)).valid is None


def test_global_time_by_ratio_and_by_cut():
    made = split(log(), rule="global_time")
    assert [len(part) for part in made.parts.values()] == [260, 32, 33]
    assert made.train.time.max() < made.valid.time.min() <= made.valid.time.max() < made.test.time.min()
    made = split(log(), rule="global_time", cuts=(1100, 1200))
    assert [len(part) for part in made.parts.values()] == [100, 100, 125]
    assert made.test.time.min() == 1200  # a cut begins its part
    made = split(log(), rule="global_time", cuts=["1970-01-01T00:20:00"])
    assert made.valid is None
    assert len(made.train) == 200


def test_equal_times_stay_together_in_a_global_split():
    made = split(log(time=np.floor(FRAME["time"] / 100)), rule="global_time", ratios=(0.4, 0.3, 0.3))
    assert not set(made.train.time) & set(made.valid.time)
    assert not set(made.valid.time) & set(made.test.time)


@pytest.mark.parametrize("rule", ["random", "temporal", "global_time", "leave_one_out"])
@pytest.mark.parametrize("text", [False, True])
def test_parts_do_not_depend_on_the_order_of_rows(rule, text):
    frame = FRAME.assign(time=FRAME["time"] // 50)  # many equal times
    if text:
        frame = frame.astype({"user": str, "item": str})
    ratios = (0.4, 0.3, 0.3)
    first = split(log(frame), rule=rule, ratios=ratios)
    again = split(log(frame.sample(frac=1, random_state=1, ignore_index=True)), rule=rule, ratios=ratios)
    for name, part in first.parts.items():
        assert set(pairs(part)) == set(pairs(again.parts[name]))


def test_a_users_random_part_does_not_depend_on_other_users():
    alone = split(log(FRAME[FRAME["user"] > 110]), rule="random")
    everyone = split(log(), rule="random")
    for user in range(111, 125):
        assert set(by_user(alone.test)[user]) == set(by_user(everyone.test)[user])


def test_the_seed_moves_the_random_split_and_nothing_else():
    drawn = [frozenset(pairs(split(log(), rule="random", split_seed=seed).test)) for seed in (0, 0, 1, 2**40)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3
    assert split(log(), rule="random", split_seed=7).split_seed == 7
    numpys = split(log(), rule="random", split_seed=np.int64(2**40))
    assert frozenset(pairs(numpys.test)) == drawn[3]
    assert type(numpys.split_seed) is int
    with pytest.raises(ValueError, match="a log as read_interactions gives it is needed, got DataFrame"):
        split(FRAME)
    timed = [frozenset(pairs(split(log(), split_seed=seed).test)) for seed in (0, 1)]
    assert timed[0] == timed[1]  # no equal times here


def test_drawn_pairs_are_uniform():
    """Each of 10 items of each of 2000 users is held out once in ten."""
    frame = pd.DataFrame({"user": np.repeat(np.arange(2000), 10), "item": np.tile(np.arange(10), 2000)})
    counts = Counter(item for _, item in pairs(split(log(frame), rule="random").test))
    expected = 200
    chi_square = sum((counts[item] - expected) ** 2 / expected for item in range(10))
    assert chi_square < 27.9  # 9 degrees of freedom, p = 0.001


def slow_draw(user, item, seed):
    """The draw of a pair, number by number, with Python's whole numbers."""

    def mix(x):
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
        return x ^ (x >> 31)

    def number(x):
        if isinstance(x, str):
            return int.from_bytes(hashlib.blake2b(x.encode(), digest_size=8).digest(), "little")
        return mix((x + 0x9E3779B97F4A7C15) % 2**64)

    seed = mix((seed + 0x9E3779B97F4A7C15) % 2**64)
    return mix((mix(number(user) ^ seed) + 3 * mix((number(item) + seed) % 2**64)) % 2**64)


@pytest.mark.parametrize("kind", [int, str])
def test_the_random_split_never_changes(kind):
    """A published result names its split by the seed."""
    made = split(log(FRAME.astype({"user": kind, "item": kind})), rule="random", split_seed=-5)
    for user, rows in FRAME.groupby("user"):
        drawn = sorted(map(kind, rows["item"]), key=lambda item: slow_draw(kind(user), item, -5))
        _, test = slow_sizes(len(rows), (0.8, 0.1, 0.1))
        assert set(by_user(made.test)[kind(user)]) == set(drawn[len(drawn) - test :])


def test_a_log_of_several_blocks():
    """Rules part some users at a time, about 65,536 rows: it is as if those were alone, and global cuts are of the whole."""
    drawn = np.random.default_rng(0)
    frame = pd.DataFrame({"user": np.repeat(np.arange(70), 1000), "item": np.tile(np.arange(1000), 70)})
    frame = frame.assign(time=drawn.permutation(70_000) + 0.0).sample(frac=1, random_state=0)
    for rule, columns in (("random", 2), ("temporal", 3), ("leave_one_out", 2), ("leave_one_out", 3)):
        whole = split(read_interactions(frame.iloc[:, :columns], time_col="time" if columns == 3 else ""), rule=rule)
        for some in (range(40), range(40, 70)):
            chosen = frame[frame["user"].isin(some)].iloc[:, :columns]
            alone = split(read_interactions(chosen, time_col="time" if columns == 3 else ""), rule=rule)
            for name, part in alone.parts.items():
                assert set(pairs(part)) == {pair for pair in pairs(whole.parts[name]) if pair[0] in some}
    made = split(read_interactions(frame), rule="global_time")
    assert sorted(made.train.time) == list(range(56_000))
    assert sorted(made.valid.time) == list(range(56_000, 63_000))


# --- repeats ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["random", "temporal", "global_time", "leave_one_out"])
def test_repeats_go_where_their_pair_goes(rule):
    """A pair that stood twice could be learned from one row and tested on the other."""
    twice = pd.concat([FRAME, FRAME.assign(time=FRAME["time"] + 400)], ignore_index=True)
    made = split(log(twice), rule=rule)
    once = split(log(), rule=rule)
    for name, part in made.parts.items():
        assert len(part) == 2 * len(once.parts[name])
        assert set(pairs(part)) == set(pairs(once.parts[name]))


# --- order ------------------------------------------------------------------------------------------------------------------


def test_vocabularies_stand_in_order_of_degree():
    made = split(log(), rule="random")
    users, items = Counter(), Counter()
    for user, item in set(pairs(made.train)):
        users[user] += 1
        items[item] += 1
    ids = made.train.user_ids.ids.tolist()
    assert [users[user] for user in ids] == sorted((users[user] for user in ids), reverse=True)
    appeared = list(dict.fromkeys(item for _, item in pairs(made.train)))
    known = [item for item in made.train.item_ids.ids.tolist() if items[item]]
    assert known == sorted(appeared, key=lambda item: (-items[item], appeared.index(item)))
    assert not any(items[item] for item in made.train.item_ids.ids.tolist()[len(known) :])
    for part in made.parts.values():
        assert part.user_ids is made.train.user_ids
        assert part.item_ids is made.train.item_ids


def test_what_is_held_out_has_no_say_in_the_order():
    """Every item stands once in train, so a scorer that goes by it knows nothing; equal scores are ranked in this order."""
    train = [(f"u{i}", f"i{i}") for i in np.random.default_rng(0).permutation(400)]
    held = [("cold", f"i{i}") for i in np.random.default_rng(1).choice(400, 20, replace=False)]

    def first(valid):
        made = order_by_degree(
            Split("toy", *over_one_vocabulary([frame_of(*part) for part in (valid, train)])[::-1], None, "", 0)
        )
        return made.train.item_ids.ids.tolist()

    assert first(held) == first(held[::-1]) == [item for _, item in train]


def test_what_train_has_not_stands_last_whatever_its_order():
    train, held = [("a", "x"), ("b", "y"), ("b", "x")], [("a", f"new{i}") for i in range(20)]
    orders = []
    for valid in (held, held[::-1]):
        parts = over_one_vocabulary([frame_of(*train), frame_of(*valid)])
        orders.append(order_by_degree(Split("toy", *parts, None, "", 0)).train.item_ids.ids.tolist())
    assert orders[0] == orders[1]
    assert orders[0][:2] == ["x", "y"]


def test_ordering_again_changes_nothing():
    made = split(log())
    again = order_by_degree(made)
    assert pairs(again.train) == pairs(made.train)
    assert again.test.users.tolist() == made.test.users.tolist()
    assert again.test.users.dtype == np.int32


# --- given files ------------------------------------------------------------------------------------------------------------


def frame_of(*rows):
    return read_interactions(pd.DataFrame(rows, columns=["user", "item"]), name="toy")


TRAIN = frame_of((1, 10), (1, 20), (1, 30), (2, 10), (2, 40))


def test_given_parts_share_the_union_of_ids():
    made = split_files(TRAIN, frame_of((3, 10), (1, 50)), frame_of((2, 20)))
    assert pairs(made.train) == pairs(TRAIN)
    assert pairs(made.test) == [(3, 10), (1, 50)]
    assert pairs(made.valid) == [(2, 20)]
    assert sorted(made.train.user_ids.ids) == [1, 2, 3]
    assert made.train.item_ids.ids.tolist()[-1] == 50  # only in test
    assert made.test.item_ids is made.train.item_ids


def test_ids_that_are_text_in_one_file_are_text_in_all():
    text = read_interactions(pd.DataFrame({"user": ["007", "1"], "item": [10, 50]}))
    made = split_files(TRAIN, text, carve=0)
    assert pairs(made.test) == [("007", 10), ("1", 50)]
    assert pairs(made.train)[0] == ("1", 10)


def test_validation_inside_train_leaves_train():
    inside = frame_of((2, 40), (1, 20))
    made = split_files(TRAIN, frame_of((1, 40)), valid_inside=inside)
    assert pairs(made.train) == [(1, 10), (1, 30), (2, 10)]
    assert pairs(made.valid) == [(1, 20), (2, 40)]
    assert made.rule == "files, valid inside train"


def test_carving():
    train = log(FRAME.drop(columns="time"))
    test = frame_of((100, 41), (101, 42))
    made = split_files(train, test, split_seed=4)
    parts = by_user(made.train), by_user(made.valid)
    for n in range(1, 26):
        valid = min(max(n // 10, 1), n - 1)
        assert [len(part[99 + n]) for part in parts] == [n - valid, valid]
    assert set(pairs(made.train)) | set(pairs(made.valid)) == set(pairs(train))
    drawn = [frozenset(pairs(split_files(train, test, split_seed=seed).valid)) for seed in (4, 5)]
    assert drawn[0] == frozenset(pairs(made.valid)) != drawn[1]
    shuffled = log(FRAME.drop(columns="time").sample(frac=1, random_state=9))
    assert frozenset(pairs(split_files(shuffled, test, split_seed=4).valid)) == drawn[0]
    assert split_files(train, test, carve=0).valid is None
    assert split_files(train, test, carve=0).rule == "files"


def test_pairs_in_train_and_test_of_given_files_are_kept_and_warned_of():
    with pytest.warns(UserWarning, match="1 of 2 test rows are also in train; kept as given"):
        made = split_files(TRAIN, frame_of((1, 10), (1, 40)), carve=0)
    assert pairs(made.test) == [(1, 10), (1, 40)]
    with pytest.warns(UserWarning, match="1 of 1 test rows are also in valid"):
        split_files(TRAIN, frame_of((2, 20)), frame_of((2, 20)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split_files(TRAIN, frame_of((1, 40)), carve=0)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"valid": frame_of((1, 10), (2, 20))}, "toy: 1 of 2 validation rows are also in train; .* valid_inside"),
        ({"valid_inside": frame_of((1, 10), (2, 20))}, "toy: 1 of 2 validation rows are not in train"),
        ({"valid": TRAIN, "valid_inside": TRAIN}, "not both"),
        ({"valid_inside": TRAIN}, "toy: no train rows"),
        ({"carve": 1.0}, "0 <= carve < 1, got 1.0"),
    ],
)
def test_given_files_that_do_not_fit(options, said):
    with pytest.raises(ValueError, match=said):
        split_files(TRAIN, frame_of((1, 40)), **options)


def test_nothing_to_carve_from():
    with pytest.raises(ValueError, match="toy: no valid rows; carve less"):
        split_files(frame_of((1, 10), (2, 20)), frame_of((1, 20)))


# --- refusals ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "options", "said"),
    [
        (FRAME[FRAME["user"] == 124], {}, "only one user; there is nothing to learn from"),
        (FRAME.assign(item=1), {}, "only one item; there is nothing to learn from"),
        (FRAME, {"rule": "tempral"}, r"unknown split rule 'tempral'; did you mean 'temporal'\?"),
        (FRAME.drop(columns="time"), {"rule": "temporal"}, "'temporal' needs a time column"),
        (FRAME.drop(columns="time"), {"rule": "global_time"}, "'global_time' needs a time column"),
        (FRAME, {"rule": "global_time", "cuts": (1,), "ratios": (0.8, 0.2)}, "give ratios or cuts, not both"),
        (FRAME, {"rule": "all", "ratios": (0.8, 0.2)}, "'all' holds nothing out, so ratios cannot be set"),
        (FRAME, {"cuts": (1,)}, "cuts belong to split rule 'global_time'"),
        (FRAME, {"rule": "global_time", "cuts": (1, 2, 3)}, r"cuts must be \(test,\) or \(valid, test\)"),
        (FRAME, {"rule": "global_time", "cuts": (1200, 1100)}, "cuts must be in order of time"),
        (FRAME, {"rule": "global_time", "cuts": ("noon",)}, "cut 'noon' is neither a number nor an ISO 8601 date"),
        (FRAME, {"rule": "global_time", "cuts": (9999,)}, "leaves no test rows out of 325"),
        (FRAME, {"rule": "global_time", "cuts": (0,)}, "leaves no train rows"),
        (FRAME, {"rule": "global_time", "cuts": (1100, 1100)}, "leaves no valid rows .*hold out no validation part"),
        (FRAME.assign(time=1.0), {"rule": "global_time"}, "leaves no train rows"),
        (FRAME, {"ratios": (0.8, 0.1)}, "ratios must be train, validation, test"),
        (FRAME, {"ratios": (0.8, 0.3, -0.1)}, "ratios must be"),
        (FRAME, {"ratios": (1.0, 0.0, 0.0)}, "with some train and some test"),
        (FRAME.drop_duplicates("user"), {}, "leaves no test rows out of 25"),
    ],
)
def test_logs_that_cannot_be_split(frame, options, said):
    with pytest.raises(ValueError, match=said):
        split(log(frame.reset_index(drop=True)), **options)


def test_too_few_pairs_for_a_validation_part():
    frame = pd.DataFrame({"user": [1, 1, 2, 2], "item": [1, 2, 1, 2]})
    with pytest.raises(ValueError, match="leaves no valid rows"):
        split(log(frame))
    assert len(split(log(frame), ratios=(0.8, 0.2)).test) == 2


def test_k_core_then_split():
    made = split(k_core(log(), 5))
    assert min(Counter(made.train.users.tolist()).values()) >= 3


# --- protocols --------------------------------------------------------------------------------------------------------------


def names(split, parts):
    """Parts by the letters of what they hold: train, valid, test."""
    sets = {"t": set(pairs(split.train)), "v": set(pairs(split.valid)), "x": set(pairs(split.test))}
    out = []
    for part in parts:
        held = set(pairs(part))
        out.append("".join(letter for letter, some in sets.items() if some <= held))
        assert held == set().union(*(sets[letter] for letter in out[-1]))
    return out


@pytest.mark.parametrize(
    ("protocol", "train", "select", "select_mask", "test", "test_mask", "selected_on"),
    [
        ("valid", "t", "v", "t", "x", "tv", "valid"),
        ("refit", "t", "v", "t", "x", "tv", "valid"),
        ("lightgcnpp", "t", "v", "t", "x", "t", "valid"),
        ("recbole", "t", "v", "t", "x", "tv", "valid"),
        ("sslrec", "t", "v", "t", "x", "t", "valid"),
        ("as-published", "tv", "x", "tv", "x", "tv", "test"),
        ("all", "tvx", "", "", "", "", None),
    ],
)
def test_protocols(protocol, train, select, select_mask, test, test_mask, selected_on):
    made = split(log())
    planned = plan(made, protocol)
    assert planned.protocol == protocol
    assert names(made, [planned.train]) == [train]
    assert names(made, [planned.select] if planned.select else []) == ([select] if select else [])
    assert names(made, [planned.test] if planned.test else []) == ([test] if test else [])
    assert "".join(names(made, planned.select_mask)) == select_mask
    assert "".join(names(made, planned.test_mask)) == test_mask
    assert planned.selected_on == selected_on


def test_every_protocol_is_tested():
    marks = [mark for mark in test_protocols.pytestmark if mark.name == "parametrize"]
    assert [case[0] for case in marks[0].args[1]] == list(PROTOCOLS)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_a_protocol_says_what_it_does(protocol):
    """The line that tables print is read here word by word, and held against the parts that `plan` follows."""
    said = {"validation": "valid", "TEST": "test", "train": "train"}
    chosen = re.search(r"select on (\w+)", protocol.about)
    assert (said[chosen[1]] if chosen else None) == protocol.selects_on
    masked = re.search(r"; ([\w ]+) masked at test", protocol.about)
    assert tuple(said[word] for word in masked[1].split(" and ")) == protocol.masks if masked else protocol.masks == ()
    assert ("then train on it too" in protocol.about) == bool(protocol.refits_on)
    assert ("split 8:1:1 at random within each user" in protocol.about) == (protocol.rule == "random")
    assert protocol.select is None or f"by {protocol.select}" in protocol.about
    assert "\n" not in protocol.about
    assert protocol.used_by


def test_protocols_are_frozen_and_found_by_name():
    assert all(name == protocol.name for name, protocol in PROTOCOLS.items())
    assert PROTOCOLS["as-published"].needs == ("train", "test")
    assert PROTOCOLS["all"].needs == ("train",)
    with pytest.raises(dataclasses.FrozenInstanceError):
        PROTOCOLS["valid"].masks = ()


def test_the_second_run_of_refit():
    made = split(log())
    second = refit_plan(made)
    assert names(made, [second.train, second.test, *second.test_mask]) == ["tv", "x", "tv"]
    assert second.select is None
    assert second.select_mask == ()


def test_another_protocol_that_refits_is_itself(monkeypatch):
    mine = dataclasses.replace(PROTOCOLS["refit"], masks=("train",))
    monkeypatch.setitem(protocol.PROTOCOLS, "mine", mine)
    made = split(log())
    second = refit_plan(made, "mine")
    assert second.protocol == "mine"
    assert names(made, [second.train, *second.test_mask]) == ["tv", "t"]


def test_as_published_puts_inside_validation_back():
    made = split_files(TRAIN, frame_of((1, 40)), valid_inside=frame_of((1, 20)))
    assert set(pairs(plan(made, "as-published").train)) == set(pairs(TRAIN))
    made = split_files(TRAIN, frame_of((1, 40)), carve=0)
    assert plan(made, "as-published").train is made.train


def test_protocols_that_lack_a_part():
    made = split_files(TRAIN, frame_of((1, 40)), carve=0)
    with pytest.raises(ValueError, match="toy: protocol 'valid' chooses the epoch on validation, and there is no such part"):
        plan(made)
    with pytest.raises(ValueError, match="protocol 'refit'"):
        refit_plan(made)
    with pytest.raises(ValueError, match="'as-published' chooses the epoch on test"):
        plan(split(log(), rule="all"), "as-published")
    assert len(plan(split(log(), rule="all"), "all").train) == 325
    with pytest.raises(ValueError, match=r"unknown protocol 'aspublished'; did you mean 'as-published'\?"):
        plan(made, "aspublished")


def test_shares_that_are_whole_numbers_but_for_rounding():
    assert quantile_cuts(np.arange(10.0), (0.7, 0.1, 0.2)) == (7.0, 8.0)  # .7 + .1 is below .8


def test_first_places_of_a_log_longer_than_a_piece():
    """Pieces are of 2**22 rows, from the end."""
    rows = np.zeros(2**22 + 3, dtype=np.int32)
    rows[[5, -2, -1]] = 1, 3, 2
    assert _first_places(rows, 5).tolist() == [0, 5, 2**22 + 2, 2**22 + 1, 2**22 + 3]
