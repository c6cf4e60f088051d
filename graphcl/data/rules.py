"""Split rules: which part (0 train, 1 validation, 2 test) each distinct pair of a log goes to.

Draws are no sequence of random numbers but a hash of (split seed, user id, item id): the part of a pair depends neither on
the order of rows nor on which other users the log holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from graphcl.interactions import Interactions, Vocabulary, frequencies, renumber, whole

TRAIN, VALID, TEST = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Pairs:
    """The distinct (user, item) pairs of a log in order of user and item; a repeat belongs to its pair."""

    users: np.ndarray  # [P]
    items: np.ndarray  # [P]
    of_row: np.ndarray  # [E] which pair a row is
    time: np.ndarray | None  # [P] its earliest time

    @property
    def known_time(self) -> np.ndarray:
        assert self.time is not None
        return self.time


def distinct_pairs(log: Interactions) -> Pairs:
    codes = log.users.astype(np.int64) * log.num_items + log.items
    unique, of_row = np.unique(codes, return_inverse=True)
    time = None
    if log.time is not None:
        time = np.full(len(unique), np.inf)
        np.minimum.at(time, of_row, log.time)
    return Pairs(unique // log.num_items, unique % log.num_items, of_row, time)


def blocks(log: Interactions) -> Iterator[tuple[np.ndarray, Pairs]]:
    """Rows of a log and their distinct pairs, all rows of some users at a time, for pairs and their sorting take 80 bytes a row."""
    size = max(len(log) // 64, 1 << 16)
    block = renumber((np.cumsum(frequencies(log.users, log.num_users)) // size).astype(np.uint8), log.users)
    for number in range(len(log) // size + 1):
        rows = np.flatnonzero(block == number)
        yield rows, distinct_pairs(log.take(rows))


def mix(x: np.ndarray) -> np.ndarray:
    """Scramble uint64. Source: the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def id_hash(vocabulary: Vocabulary) -> np.ndarray:
    """uint64 per id, the same on every machine."""
    if vocabulary.ids.dtype == object:
        digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in vocabulary.ids)
        return np.frombuffer(digests, dtype="<u8").astype(np.uint64)
    return mix(vocabulary.ids.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15))


def hashes(log: Interactions, split_seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint64 per user and per item, of which `draw` makes those of pairs."""
    seed = mix(np.array([whole(split_seed, "split_seed") % 2**64], dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15))
    return mix(id_hash(log.user_ids) ^ seed), mix(id_hash(log.item_ids) + seed)


def draw(pairs: Pairs, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """One uint64 per pair, from the split seed and the pair's own ids."""
    return mix(users[pairs.users] + np.uint64(3) * items[pairs.items])


def held_out(sizes: np.ndarray, ratios: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """How many of each user's pairs go to validation and to test: the ratio rounded down, but at least one where asked
    for, test first, as long as one is left to train.

    Source: the sizes of RecBole 1.2.1's ratio splits (recbole/data/dataset/dataset.py, `_calcu_split_ids`).
    Departs: 0.29 * 100 counts as 29, though in floating point it lies just below.
    """
    left = sizes.copy()
    counts = []
    for ratio in (ratios[TEST], ratios[VALID]):
        count = np.floor(ratio * sizes + 1e-9).astype(np.int64)
        if ratio > 0:
            count = np.maximum(count, 1)
        count = np.clip(np.minimum(count, left - 1), 0, None)
        left -= count
        counts.append(count)
    return counts[1], counts[0]


def each_user(log: Interactions, rule: str, ratios: tuple[float, float, float], split_seed: int) -> np.ndarray:
    """Parts [E] by a rule that looks at each user alone: of the user's pairs in an order, the last are test and those before
    them validation.

    random: in drawn order, cut by the ratios. temporal: in order of time (equal times in drawn order), cut by the ratios.
    leave_one_out: in order of time too, or of place in the file where there is no time; the last pair is test and the one
    before it validation (if its ratio is not 0), as long as one is left to train.
    """
    if rule == "leave_one_out" and log.time is None:
        log = replace(log, time=np.arange(len(log), dtype=np.float64))
    parts = np.empty(len(log), dtype=np.int8)
    of_ids = hashes(log, split_seed)
    for rows, pairs in blocks(log):
        _, sizes = np.unique(pairs.users, return_counts=True)
        if rule == "leave_one_out":
            test = np.minimum(sizes - 1, 1)
            valid = np.minimum(sizes - 1 - test, int(ratios[VALID] > 0))
        else:
            valid, test = held_out(sizes, ratios)
        when = () if rule == "random" else (pairs.known_time,)
        order = np.lexsort((draw(pairs, *of_ids), *when, pairs.users))
        counts = np.stack((sizes - valid - test, valid, test), axis=1)
        of_pair = np.empty(len(pairs.users), dtype=np.int8)
        of_pair[order] = np.repeat(np.tile((TRAIN, VALID, TEST), len(sizes)), counts.ravel())
        parts[rows] = of_pair[pairs.of_row]
    return parts


def quantile_cuts(times: np.ndarray, ratios: tuple[float, float, float]) -> tuple[float, ...]:
    """The times at which validation and test begin, such that the ratios hold up to equal times."""
    shares = [ratios[TRAIN], ratios[TRAIN] + ratios[VALID]] if ratios[VALID] > 0 else [ratios[TRAIN]]
    places = [min(int(np.floor(share * len(times) + 1e-9)), len(times) - 1) for share in shares]
    return tuple(np.partition(times, places)[places].tolist())


def first_times(log: Interactions) -> np.ndarray:
    """The earliest time of each distinct pair, float64 [P]."""
    return np.concatenate([pairs.known_time for _, pairs in blocks(log)])


def global_time(log: Interactions, cuts: tuple[float, ...]) -> np.ndarray:
    """Parts [E]: pairs first seen before the first cut are train, from the last cut on test, between them validation."""
    parts = np.empty(len(log), dtype=np.int8)
    for rows, pairs in blocks(log):
        of_pair = np.where(pairs.known_time >= cuts[-1], TEST, np.where(pairs.known_time >= cuts[0], VALID, TRAIN))
        parts[rows] = of_pair[pairs.of_row]
    return parts
