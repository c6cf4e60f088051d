"""Disjoint parts of a log."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from graphcl.data import rules
from graphcl.data.nearest import nearest
from graphcl.interactions import Interactions, Vocabulary, frequencies, pattern, renumber, whole

RULES = ("random", "temporal", "global_time", "leave_one_out", "all")


@dataclass(frozen=True, eq=False)
class Split:
    """Parts of one log over one pair of vocabularies, which stand in order of degree (see `order_by_degree`).

    A part is None where there is none, never empty. No pair stands in two parts, except where given files say so.
    """

    name: str
    train: Interactions  # without the validation pairs, also where a file holds them inside train
    valid: Interactions | None
    test: Interactions | None
    rule: str
    split_seed: int
    kind: str = "general"
    citation: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "split_seed", whole(self.split_seed, "split_seed"))

    @property
    def parts(self) -> dict[str, Interactions]:
        """The parts that exist, by name."""
        named = {"train": self.train, "valid": self.valid, "test": self.test}
        return {name: part for name, part in named.items() if part is not None}


def split(
    interactions: Interactions,
    *,
    rule: str | None = None,
    ratios: Sequence[float] | None = None,
    split_seed: int = 0,
    cuts: Sequence[Any] | None = None,
) -> Split:
    """Part a log by a rule.

    ============= ===================================================================================================
    random        each user's pairs in drawn order, by ratio
    temporal      each user's pairs in order of time, by ratio: the latest are test (default if there is a time column)
    global_time   everything before a cut is train; cuts from the ratios, or given as `(test,)` or `(valid, test)`
    leave_one_out each user's last pair is test, the one before validation; by time, else by place in the file
    all           everything is train: there is nothing to select or measure on
    ============= ===================================================================================================

    `ratios`: train, validation, test (.8, .1, .1), or train and test; leave_one_out reads of them whether there is
    validation. A user's part is rounded down but is at least one pair where the user has enough. What is parted are
    distinct pairs, at their earliest time; every repeat goes where its pair goes, so no pair is both learned and tested.
    Parts depend on `split_seed` and the ids, not on the order of rows (but for leave_one_out without times).

    Raises: ValueError for fewer than two users or items, an empty part, a rule without the time it needs, ratios beside cuts or under
    `all`.
    """
    if not isinstance(interactions, Interactions):
        raise ValueError(f"a log as read_interactions gives it is needed, got {type(interactions).__name__}")
    if rule is None:
        rule = "random" if interactions.time is None else "temporal"
    if rule not in RULES:
        raise ValueError(f"unknown split rule {rule!r}{nearest(rule, RULES)}; known: {', '.join(RULES)}")
    if rule in ("temporal", "global_time") and interactions.time is None:
        raise ValueError(f"{interactions.name}: split rule {rule!r} needs a time column (time_col=, --time-col)")
    if cuts is not None and rule != "global_time":
        raise ValueError(f"cuts belong to split rule 'global_time', not to {rule!r}")
    if ratios is not None and rule == "all":
        raise ValueError("split rule 'all' holds nothing out, so ratios cannot be set")
    if ratios is not None and cuts is not None:
        raise ValueError("give ratios or cuts, not both")
    enough_to_learn(interactions)
    if rule == "all":
        return order_by_degree(Split(interactions.name, interactions, None, None, rule, split_seed))
    shares = three_ratios(ratios)
    if rule == "global_time":
        times = rules.quantile_cuts(rules.first_times(interactions), shares) if cuts is None else cut_times(cuts)
        parts, with_valid = rules.global_time(interactions, times), len(times) == 2
    else:
        parts, with_valid = rules.each_user(interactions, rule, shares, split_seed), shares[rules.VALID] > 0
    named = {name: interactions.take(parts == part) for part, name in enumerate(("train", "valid", "test"))}
    for name in ("test", "train", "valid"):
        if not len(named[name]) and (name != "valid" or with_valid):
            raise ValueError(
                f"{interactions.name}: split rule {rule!r} leaves no {name} rows out of {len(interactions)}; "
                f"change the ratios or cuts{', or hold out no validation part' if name == 'valid' else ''}"
            )
    valid = named["valid"] if with_valid else None
    return order_by_degree(Split(interactions.name, named["train"], valid, named["test"], rule, split_seed))


def split_files(
    train: Interactions,
    test: Interactions | None,
    valid: Interactions | None = None,
    valid_inside: Interactions | None = None,
    *,
    carve: float = 0.1,
    split_seed: int = 0,
    name: str | None = None,
) -> Split:
    """A split that comes as files.

    `valid` stands beside train; `valid_inside` repeats pairs of train, which then leave it; with neither, `carve` of each
    user's train pairs is drawn by `split_seed` (0 carves nothing). Ids of one file are those of the others.

    Pairs that stand in both train and test, or in validation and test, stay where the files have them, because published
    numbers were measured so; a warning and `describe` count them.

    Raises: ValueError where validation pairs lie partly inside train, or `valid_inside` has pairs that train has not.
    """
    if valid is not None and valid_inside is not None:
        raise ValueError("give the validation part as valid or as valid_inside, not both")
    if not 0 <= carve < 1:
        raise ValueError(f"carve must be a share of train, 0 <= carve < 1, got {carve}")
    given = {"train": train, "valid": valid, "valid_inside": valid_inside, "test": test}
    shared = dict(zip(given, over_one_vocabulary(list(given.values())), strict=True))
    assert shared["train"] is not None
    train = shared["train"]
    name = name or train.name
    enough_to_learn(train)
    rule = "files"
    valid = shared["valid"]
    if valid is not None:
        common = int(inside(valid, train).sum())
        if common:
            raise ValueError(
                f"{name}: {common} of {len(valid)} validation rows are also in train; if validation repeats a part of "
                "train give it as valid_inside (role valid_inside_train), else remove them from one of the two"
            )
    elif shared["valid_inside"] is not None:
        wanted = shared["valid_inside"]
        strange = int((~inside(wanted, train)).sum())
        if strange:
            raise ValueError(f"{name}: {strange} of {len(wanted)} validation rows are not in train, so they are not inside it")
        chosen = inside(train, wanted)
        train, valid, rule = train.take(~chosen), train.take(chosen), "files, valid inside train"
    elif carve > 0:
        parts = rules.each_user(train, "random", (1 - carve, carve, 0.0), split_seed)
        valid, rule = train.take(parts == rules.VALID), f"files, {carve:g} of train carved"
        train = train.take(parts == rules.TRAIN)
    for part, rows in (("train", train), ("valid", valid), ("test", shared["test"])):
        if rows is not None and not len(rows):
            raise ValueError(f"{name}: no {part} rows; carve less, or give other files")
    made = Split(name, train, valid, shared["test"], rule, split_seed)
    warn_of_leaks(made)
    return order_by_degree(made)


def warn_of_leaks(made: Split) -> None:
    if made.test is None:
        return
    for name, part in made.parts.items():
        if name == "test":
            continue
        common = int(inside(made.test, part).sum())
        if common:
            warnings.warn(
                f"{made.name}: {common} of {len(made.test)} test rows are also in {name}; kept as given, but masking "
                f"{name} at test makes them misses",
                stacklevel=3,
            )


def enough_to_learn(log: Interactions) -> None:
    for what, rows in (("user", log.users), ("item", log.items)):
        if not len(rows) or (rows == rows[0]).all():
            raise ValueError(f"{log.name}: {'only one' if len(rows) else 'no'} {what}; there is nothing to learn from")


def three_ratios(ratios: Sequence[float] | None) -> tuple[float, float, float]:
    """Of train, validation and test; None are the default ones."""
    if ratios is None:
        return 0.8, 0.1, 0.1
    shares = (ratios[0], 0.0, ratios[1]) if len(ratios) == 2 else tuple(ratios)
    if len(shares) != 3 or not min(shares) >= 0 or not shares[0] or not shares[2] or not abs(sum(shares) - 1) <= 1e-6:
        raise ValueError(
            f"ratios must be train, validation, test (or train, test), at least 0 and 1 in sum, with some train and some "
            f"test; got {tuple(ratios)}"
        )
    return shares  # type: ignore[return-value]


def cut_times(cuts: Sequence[Any]) -> tuple[float, ...]:
    """Numbers as they are, dates as seconds since 1970."""
    if isinstance(cuts, str) or len(cuts) not in (1, 2):
        raise ValueError(f"cuts must be (test,) or (valid, test), got {cuts!r}")
    times = []
    for cut in cuts:
        try:
            times.append(float(cut) if isinstance(cut, int | float | np.number) else date_seconds(cut))
        except ValueError:
            raise ValueError(f"cut {cut!r} is neither a number nor an ISO 8601 date") from None
    if sorted(times) != times:
        raise ValueError(f"cuts must be in order of time, got {cuts!r}")
    return tuple(times)


def date_seconds(date: Any) -> float:
    stamp = pd.Timestamp(date)
    return (stamp.tz_localize("UTC") if stamp.tz is None else stamp).timestamp()


def inside(rows: Interactions, of: Interactions) -> np.ndarray:
    """Which rows [E] hold a pair that the other part holds too; both over the same vocabularies."""

    def codes(part: Interactions) -> np.ndarray:
        return part.users.astype(np.int64) * part.num_items + part.items

    return pd.Series(codes(rows)).isin(codes(of)).to_numpy()  # np.isin took ten times as long on a million


def over_one_vocabulary(parts: Sequence[Interactions | None]) -> list[Interactions | None]:
    """The parts over the union of their ids, in order of first appearance. Where one part has text ids, all have."""
    held = [part for part in parts if part is not None]

    def union(vocabularies: list[Vocabulary]) -> Vocabulary:
        ids = [vocabulary.ids for vocabulary in vocabularies]
        if any(some.dtype == object for some in ids):
            ids = [some if some.dtype == object else some.astype(str).astype(object) for some in ids]
        return Vocabulary(np.asarray(pd.unique(np.concatenate(ids))))

    user_ids = union([part.user_ids for part in held])
    item_ids = union([part.item_ids for part in held])

    def moved(part: Interactions | None) -> Interactions | None:
        if part is None:
            return None
        users = user_ids.rows(part.user_ids.ids).astype(np.int32)[part.users]
        items = item_ids.rows(part.item_ids.ids).astype(np.int32)[part.items]
        return replace(part, users=users, items=items, user_ids=user_ids, item_ids=item_ids)

    return [moved(part) for part in parts]


def order_by_degree(split: Split) -> Split:
    """The same split over vocabularies sorted by degree: distinct partners in train, most first, ties in order of appearance there,
    last what train has not, by a hash of its id. Sparse products are about twice as fast on nodes in this order, because the rows
    that are gathered most lie together in the cache. Equal scores are ranked in it too, so nothing held out has a say in it.
    """
    seen = split.train
    pairs = pattern(seen)

    def ordered(counts: np.ndarray, rows: np.ndarray, vocabulary: Vocabulary) -> tuple[np.ndarray, Vocabulary]:
        order = np.lexsort((_first_places(rows, len(counts)), -counts))
        unseen = order[counts[order] == 0]
        order[len(order) - len(unseen) :] = unseen[np.argsort(rules.id_hash(Vocabulary(vocabulary.ids[unseen])), kind="stable")]
        new = np.empty(len(order), dtype=np.int32)
        new[order] = np.arange(len(order), dtype=np.int32)
        return new, Vocabulary(vocabulary.ids[order])

    new_user, user_ids = ordered(np.diff(pairs.indptr), seen.users, seen.user_ids)
    new_item, item_ids = ordered(frequencies(pairs.indices, seen.num_items), seen.items, seen.item_ids)

    def moved(part: Interactions | None) -> Interactions | None:
        if part is None:
            return None
        users, items = renumber(new_user, part.users), renumber(new_item, part.items)
        return replace(part, users=users, items=items, user_ids=user_ids, item_ids=item_ids)

    train = moved(split.train)
    assert train is not None
    return replace(split, train=train, valid=moved(split.valid), test=moved(split.test))


def _first_places(rows: np.ndarray, num_ids: int) -> np.ndarray:  # [E] -> [num_ids] int64
    """Where each row number first stands, E where nowhere; by pieces from the end, so that the first is written last."""
    first = np.full(num_ids, len(rows), dtype=np.int64)
    for stop in range(len(rows), 0, -(1 << 22)):
        start = max(0, stop - (1 << 22))
        first[rows[start:stop][::-1]] = np.arange(stop - 1, start - 1, -1)
    return first
