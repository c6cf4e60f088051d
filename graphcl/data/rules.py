"""Split rules: which part (0 train, 1 validation, 2 test) each distinct pair of a log goes to.

Draws are no sequence of random numbers but a hash of (split seed, user id, item id): the part of a pair depends neither on
the order of rows nor on which other users the log holds.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from graphcl.interactions import Interactions, Vocabulary

TRAIN, VALID, TEST = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Pairs:
    """The distinct (user, item) pairs of a log; a repeat belongs to its pair."""

    users: np.ndarray  # [P]
    items: np.ndarray  # [P]
    first_row: np.ndarray  # [P] where it first stands in the log
    of_row: np.ndarray  # [E] which pair a row is
    time: np.ndarray | None  # [P] its earliest time

    @property
    def known_time(self) -> np.ndarray:
        assert self.time is not None
        return self.time


def distinct_pairs(log: Interactions) -> Pairs:
    codes = log.users.astype(np.int64) * log.num_items + log.items
    unique, first_row, of_row = np.unique(codes, return_index=True, return_inverse=True)
    time = None
    if log.time is not None:
        time = np.full(len(unique), np.inf)
        np.minimum.at(time, of_row, log.time)
    return Pairs(unique // log.num_items, unique % log.num_items, first_row, of_row, time)


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


def draw(log: Interactions, pairs: Pairs, split_seed: int) -> np.ndarray:
    """One uint64 per pair, from the split seed and the pair's own ids."""
    seed = mix(np.array([split_seed % 2**64], dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15))
    users = mix(id_hash(log.user_ids) ^ seed)
    items = mix(id_hash(log.item_ids) + seed)
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


def last_of_each_user(users: np.ndarray, order_by: tuple[np.ndarray, ...], valid: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Parts [P]: of each user's pairs, sorted by the keys (the first counts most), the last `test[user]` are test and the
    `valid[user]` before them validation."""
    order = np.lexsort((*reversed(order_by), users))
    sizes = np.bincount(users, minlength=len(test))
    ends = np.cumsum(sizes)
    ordered = users[order]
    from_end = ends[ordered] - 1 - np.arange(len(users))
    parts = np.empty(len(users), dtype=np.int8)
    parts[order] = np.where(from_end < test[ordered], TEST, np.where(from_end < (test + valid)[ordered], VALID, TRAIN))
    return parts


def random_ratio(log: Interactions, pairs: Pairs, ratios: tuple[float, float, float], split_seed: int) -> np.ndarray:
    """Each user's pairs in drawn order, cut by the ratios."""
    valid, test = held_out(np.bincount(pairs.users, minlength=log.num_users), ratios)
    return last_of_each_user(pairs.users, (draw(log, pairs, split_seed),), valid, test)


def temporal_ratio(log: Interactions, pairs: Pairs, ratios: tuple[float, float, float], split_seed: int) -> np.ndarray:
    """Each user's pairs in order of time (equal times in drawn order), cut by the ratios: the latest are test."""
    valid, test = held_out(np.bincount(pairs.users, minlength=log.num_users), ratios)
    return last_of_each_user(pairs.users, (pairs.known_time, draw(log, pairs, split_seed)), valid, test)


def leave_one_out(log: Interactions, pairs: Pairs, ratios: tuple[float, float, float], split_seed: int) -> np.ndarray:
    """Each user's last pair is test and the one before it validation (if its ratio is not 0), as long as one is left to
    train. Last by time, equal times in drawn order; by place in the file where there is no time."""
    sizes = np.bincount(pairs.users, minlength=log.num_users)
    test = (sizes > 1).astype(np.int64)
    valid = ((sizes > 2) & (ratios[VALID] > 0)).astype(np.int64)
    order_by: tuple[np.ndarray, ...] = (pairs.first_row,)
    if pairs.time is not None:
        order_by = (pairs.time, draw(log, pairs, split_seed))
    return last_of_each_user(pairs.users, order_by, valid, test)


def quantile_cuts(times: np.ndarray, ratios: tuple[float, float, float]) -> tuple[float, ...]:
    """The times at which validation and test begin, such that the ratios hold up to equal times."""
    ordered = np.sort(times)
    shares = [ratios[TRAIN], ratios[TRAIN] + ratios[VALID]] if ratios[VALID] > 0 else [ratios[TRAIN]]
    return tuple(float(ordered[min(int(np.floor(share * len(ordered) + 1e-9)), len(ordered) - 1)]) for share in shares)


def global_time(pairs: Pairs, cuts: tuple[float, ...]) -> np.ndarray:
    """Pairs first seen before the first cut are train, from the last cut on test, between them validation."""
    parts = np.full(len(pairs.users), TRAIN, dtype=np.int8)
    parts[pairs.known_time >= cuts[0]] = VALID
    parts[pairs.known_time >= cuts[-1]] = TEST
    return parts
