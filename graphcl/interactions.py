"""A log of interactions, with the caller's own ids."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """External ids, one per internal row: ``ids[row]`` is the id exactly as it came in."""

    ids: np.ndarray  # [n], int64 or object (str)

    @cached_property
    def _index(self) -> pd.Index:
        index = pd.Index(self.ids)
        if not index.is_unique:
            twice = index[index.duplicated()][0]
            raise ValueError(f"id {str(twice)!r} stands twice in a vocabulary")
        return index

    def rows(self, ids: Sequence[Any] | np.ndarray) -> np.ndarray:
        """Internal row of each id, int64 [n]; -1 for an id that is not known.

        Among whole ids the text "7" finds 7, but "007" does not; among text ids 7 finds "7".
        """
        values = np.asarray(ids) if isinstance(ids, np.ndarray) else np.array(list(ids), dtype=object)
        if self.ids.dtype == object:
            texts = np.array([value if isinstance(value, str) else str(value) for value in values], dtype=object)
            return self._index.get_indexer(pd.Index(texts, dtype=self._index.dtype)).astype(np.int64)
        if values.dtype.kind in "iu":
            return self._index.get_indexer(values).astype(np.int64)
        wanted = [whole_number(value) for value in values.tolist()]
        known = np.array([number is not None for number in wanted], dtype=bool)
        out = np.full(len(wanted), -1, dtype=np.int64)
        numbers = np.array([number for number in wanted if number is not None], dtype=np.int64)
        out[known] = self._index.get_indexer(numbers)
        return out

    def __len__(self) -> int:
        return len(self.ids)


def whole(value: Any, what: str, least: int | None = None) -> int:
    """The int of any whole number, NumPy's too.

    Raises: ValueError for anything else, and below ``least``.
    """
    if not isinstance(value, Integral):
        raise ValueError(f"{what} must be a whole number, got {value!r}")
    if least is not None and value < least:
        raise ValueError(f"{what} must be {least} or more, got {value}")
    return int(value)


def whole_number(value: Any) -> int | None:
    """The int64 that a value names: 7, 7.0 and "7" do; 7.5, "007", True and None do not."""
    if isinstance(value, str):
        try:
            number = int(value)
        except ValueError:
            return None
        if str(number) != value:
            return None
    elif isinstance(value, float | np.floating):
        if not np.isfinite(value) or value != int(value):
            return None
        number = int(value)
    elif isinstance(value, int | np.integer) and not isinstance(value, bool):
        number = int(value)
    else:
        return None
    return number if -(2**63) <= number < 2**63 else None


@dataclass(frozen=True, eq=False)
class Interactions:
    """Every row of a log in file order. Repeats are kept; they merge where a graph or a matrix is made.

    Parts of one split share their vocabularies, so a row number means the same user or item in each.

    Raises:
        ValueError: columns of different lengths, a row number outside its vocabulary, a time that is not finite.
    """

    users: np.ndarray  # [E] int32 rows of user_ids
    items: np.ndarray  # [E] int32 rows of item_ids
    user_ids: Vocabulary
    item_ids: Vocabulary
    time: np.ndarray | None = None  # [E] float64, seconds since 1970 or whatever number the log holds
    rating: np.ndarray | None = None  # [E] float32
    name: str = "interactions"

    def __post_init__(self) -> None:
        for what in ("items", "time", "rating"):
            column = getattr(self, what)
            if column is not None and len(column) != len(self.users):
                raise ValueError(f"{self.name}: {len(self.users)} users but {len(column)} {what}")
        for what, rows, ids in (("users", self.users, self.user_ids), ("items", self.items, self.item_ids)):
            if len(rows) and not 0 <= rows.min() <= rows.max() < len(ids):
                raise ValueError(f"{self.name}: {what} must be rows 0..{len(ids) - 1}, got {rows.min()}..{rows.max()}")
        with np.errstate(invalid="ignore"):
            finite = self.time is None or math.isfinite(self.time.sum(dtype=np.float64))
        if not finite:
            raise ValueError(f"{self.name}: a time is not finite; leave out rows without one, or time=None")

    @property
    def num_users(self) -> int:
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        return len(self.item_ids)

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: np.ndarray) -> Interactions:
        """The rows chosen by a mask or by positions; vocabularies stay whole."""
        return replace(
            self,
            users=self.users[rows],
            items=self.items[rows],
            time=None if self.time is None else self.time[rows],
            rating=None if self.rating is None else self.rating[rows],
        )

    @cached_property
    def matrix(self) -> sparse.csr_matrix:
        """[U, I] pattern of ones (float32), repeats merged, columns sorted."""
        matrix = pattern(self)
        matrix.data = np.ones(matrix.nnz, dtype=np.float32)
        return matrix

    @property
    def num_repeats(self) -> int:
        return len(self.users) - self.matrix.nnz


def pattern(interactions: Interactions) -> sparse.csr_matrix:
    """[U, I] of the distinct pairs, columns sorted. Entries are a byte each, for there may be hundreds of millions."""
    ones = np.ones(len(interactions), dtype=np.bool_)
    shape = (interactions.num_users, interactions.num_items)
    matrix = sparse.csr_matrix((ones, (interactions.users, interactions.items)), shape=shape)
    matrix.sum_duplicates()
    matrix.sort_indices()
    return matrix


def frequencies(rows: np.ndarray, num_ids: int) -> np.ndarray:
    """How often each row number below `num_ids` stands in `rows`, int64 [num_ids]; by pieces, as in `renumber`."""
    counts = np.zeros(num_ids, dtype=np.int64)
    for start in range(0, len(rows), 1 << 22):
        counts += np.bincount(rows[start : start + (1 << 22)], minlength=num_ids)
    return counts


def renumber(new: np.ndarray, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """new[rows], by pieces: NumPy would hold the rows as int64 meanwhile."""
    out = np.empty(len(rows), dtype=new.dtype) if out is None else out
    for start in range(0, len(rows), 1 << 17):
        piece = slice(start, start + (1 << 17))
        out[piece] = new[rows[piece]]
    return out


def concat(parts: Sequence[Interactions]) -> Interactions:
    """Rows of several parts of one log, one after the other. A time or rating that one part lacks is left out.

    Raises:
        ValueError: no parts, or parts over different vocabularies.
    """
    if not parts:
        raise ValueError("there are no parts to join")
    first = parts[0]
    if len(parts) == 1:
        return first
    for part in parts[1:]:
        if part.user_ids is not first.user_ids or part.item_ids is not first.item_ids:
            raise ValueError("parts to join must share their vocabularies")

    def joined(field: str) -> np.ndarray | None:
        columns = [getattr(part, field) for part in parts]
        return None if any(c is None for c in columns) else np.concatenate(columns)

    return replace(
        first,
        users=np.concatenate([p.users for p in parts]),
        items=np.concatenate([p.items for p in parts]),
        time=joined("time"),
        rating=joined("rating"),
    )
