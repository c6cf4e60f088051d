"""Made-up logs with the skew of real ones: power laws in users and items, and communities for a recommender to find."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np

from graphcl.data.source import expanded, write_atomically

BATCH_ROWS = 1 << 20
SHIFT = 10.0  # q of the shifted law (rank + q)^-exponent: the first ranks are popular, but not absurdly so
ATTEMPTS = 64  # draws for an item that the user has not, before the next free one by rank is taken


@numba.njit(inline="always", cache=True)
def _next(state):
    """SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): the state after one step."""
    return state + np.uint64(0x9E3779B97F4A7C15)


@numba.njit(inline="always", cache=True)
def _mix(state):
    x = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@numba.njit(inline="always", cache=True)
def _below(state, bound):
    """A whole number in [0, bound), for bounds far under 2^53."""
    return np.int64(np.float64(_mix(state) >> np.uint64(11)) * 2.0**-53 * bound)


@numba.njit(inline="always", cache=True)
def _rank(state, exponent, count, shift):
    """A rank in [0, count), drawn with density (rank + shift)^-exponent: the inverse of its integral."""
    u = np.float64(_mix(state) >> np.uint64(11)) * 2.0**-53
    power = 1.0 - exponent
    if abs(power) < 1e-9:
        x = shift * ((count + shift) / shift) ** u
    else:
        low, high = shift**power, (count + shift) ** power
        x = (low + u * (high - low)) ** (1.0 / power)
    return min(max(np.int64(x - shift), 0), count - 1)


@numba.njit(cache=True, nogil=True)
def _draw(seed, degrees, num_items, exponent, shift, communities, affinity, pairs):
    """pairs [E]: user rank << 32 | item rank, none twice. Item i is of community i % communities, as user u is."""
    last_user = np.full(num_items, -1, dtype=np.int32)  # who took the item last
    filled = 0
    for user in range(len(degrees)):
        state = _mix(seed ^ _mix(np.uint64(user) + np.uint64(1)))
        own = user % communities
        within = (num_items - own + communities - 1) // communities  # items of the user's community
        for _ in range(degrees[user]):
            item = 0
            for _attempt in range(ATTEMPTS):
                state = _next(state)
                from_own = _below(state, 1 << 30) < affinity * (1 << 30)
                state = _next(state)
                if from_own:
                    item = _rank(state, exponent, within, shift / communities) * communities + own
                else:
                    item = _rank(state, exponent, num_items, shift)
                if last_user[item] != user:
                    break
            while last_user[item] == user:
                item = (item + 1) % num_items
            last_user[item] = user
            pairs[filled] = (np.int64(user) << 32) | item
            filled += 1


@numba.njit(cache=True, nogil=True)
def _shuffle(seed, values):
    """Fisher and Yates, in place."""
    state = _mix(seed)
    for n in range(len(values) - 1, 0, -1):
        state = _next(state)
        other = _below(state, n + 1)
        values[n], values[other] = values[other], values[n]


def degrees_of(num_users: int, num_interactions: int, exponent: float, most: int) -> np.ndarray:
    """int64 [U], largest first: one item each, and the rest in proportion to (rank + 10)^-exponent, but at most `most`.
    They sum to `num_interactions`."""
    share = (np.arange(num_users) + SHIFT) ** -exponent
    wanted = np.ones(num_users)
    open_ = np.ones(num_users, dtype=bool)
    while (left := num_interactions - wanted.sum()) > 0.5 and open_.any():
        wanted[open_] += left * share[open_] / share[open_].sum()
        wanted = np.minimum(wanted, most)
        open_ = wanted < most
    return np.diff(np.floor(np.cumsum(wanted) + 0.5), prepend=0).astype(np.int64)


def synth_pairs(
    users: int,
    items: int,
    interactions: int,
    *,
    seed: int = 0,
    exponent: float = 0.8,
    user_exponent: float = 0.5,
    communities: int = 20,
    affinity: float = 0.5,
) -> tuple[np.ndarray, np.ndarray]:
    """User and item ids, int32 [E] each, of a log in random order in which no pair stands twice.

    Items are drawn with popularity (rank + 10)^-exponent, and drawn again where the user has them already; users have
    at least one item each, and more by (rank + 10)^-user_exponent. User and item ranks are dealt evenly to `communities` (at most one an item);
    with probability `affinity` a user draws among the items of their own, else among all. Ids 0.. are in random order of
    rank; an item that nobody drew is missing. Same arguments, same log. Memory: 16 bytes an interaction at the end.

    Raises: ValueError for an argument out of bounds: among them fewer interactions than users, or more than half of all pairs.
    """
    for what, value, least in (("users", users, 2), ("items", items, 2), ("communities", communities, 1)):
        if not least <= value < 2**31:
            raise ValueError(f"{what} must lie in {least}..{2**31 - 1}, got {value}")
    most = max(items // 2, 1)
    if not users <= interactions <= users * most:
        raise ValueError(
            f"interactions must lie in {users}..{users * most} (at least one a user, at most half of the items each), "
            f"got {interactions}"
        )
    for what, power in (("exponent", exponent), ("user_exponent", user_exponent)):
        if not 0 <= power <= 3:
            raise ValueError(f"{what} must lie in 0..3, got {power}")
    if not 0 <= affinity <= 1:
        raise ValueError(f"affinity is a probability, 0..1, got {affinity}")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed must lie in 0..2^63 - 1, got {seed}")
    pairs = np.empty(interactions, dtype=np.int64)
    degrees = degrees_of(users, interactions, user_exponent, most)
    assert degrees.sum() == interactions
    _draw(np.uint64(seed), degrees, items, exponent, SHIFT, min(communities, items), affinity, pairs)
    user_ids, item_ids = np.arange(users, dtype=np.int32), np.arange(items, dtype=np.int32)
    for stream, values in enumerate((user_ids, item_ids, pairs), start=1):
        _shuffle(np.uint64((seed + stream * 0xD1B54A32D192ED03) % 2**64), values)
    found = np.empty(interactions, dtype=np.int32), np.empty(interactions, dtype=np.int32)
    for start in range(0, interactions, BATCH_ROWS):
        part = slice(start, start + BATCH_ROWS)
        found[0][part], found[1][part] = user_ids[pairs[part] >> 32], item_ids[pairs[part] & 0xFFFFFFFF]
    return found


def synth(path: str | Path, users: int, items: int, interactions: int, **options: Any) -> Path:
    """A log of `synth_pairs` (see there for the options) as a file with the columns user_id and item_id.

    Raises: ValueError for an ending other than .csv and .parquet, and what `synth_pairs` raises.
    """
    path = expanded(path)
    if path.suffix not in (".csv", ".parquet"):
        raise ValueError(f"{path}: a made-up log is written as .csv or .parquet, not {path.suffix!r}")
    columns = synth_pairs(users, items, interactions, **options)
    write_atomically(path, lambda part: write(columns, part, path.suffix))
    return path


def write(columns: tuple[np.ndarray, np.ndarray], part: Path, ending: str) -> None:
    import pyarrow as pa
    from pyarrow import csv, parquet

    schema = pa.schema([("user_id", pa.int32()), ("item_id", pa.int32())])

    def batches() -> Iterator[Any]:
        for start in range(0, len(columns[0]), BATCH_ROWS):
            yield pa.record_batch([column[start : start + BATCH_ROWS] for column in columns], schema)

    if ending == ".parquet":
        with parquet.ParquetWriter(part, schema) as writer:
            for batch in batches():
                writer.write_batch(batch)
        return
    with part.open("wb") as file:
        file.write(b"user_id,item_id\n")
        options = csv.WriteOptions(include_header=False, quoting_style="none")
        with csv.CSVWriter(file, schema, write_options=options) as writer:
            for batch in batches():
                writer.write_batch(batch)
