"""Ids to row numbers, block by block: each distinct id gets the next row when it first appears.

Nothing is a Python object until the vocabulary is handed out. Both tables probe linearly and stay at most two thirds full.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
import pandas as pd

from graphcl.interactions import renumber

CHUNK = 1 << 15  # ids at a time, which bounds the room that a block may need beyond its distinct ids
GOLDEN = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio: spreads neighbours


@numba.njit(cache=True, nogil=True)
def _whole_numbers(text, starts, ends, values):
    """int64 of each byte range, ASCII blanks around it left out. Returns how many, from the first on, print back the same."""
    limit = np.int64(0x7FFFFFFFFFFFFFFF)
    for n in range(len(starts)):
        first, last = starts[n], ends[n]
        while first < last and (text[first] == 32 or 9 <= text[first] <= 13):
            first += 1
        while last > first and (text[last - 1] == 32 or 9 <= text[last - 1] <= 13):
            last -= 1
        negative = first < last and text[first] == 45
        if negative:
            first += 1
        if first == last or last - first > 19 or (text[first] == 48 and (negative or last - first > 1)):
            return n
        value = np.int64(0)
        for at in range(first, last):
            digit = np.int64(text[at]) - 48
            if digit < 0 or digit > 9 or value > (limit - digit) // 10:
                return n
            value = value * 10 + digit
        values[n] = -value if negative else value
    return len(starts)


@numba.njit(cache=True, nogil=True)
def _rows_of_numbers(values, table, ids, count, rows):
    """`table` [2 * slots]: an id, then its row or -1. Returns the number of ids known by now."""
    slots = len(table) // 2
    shift = np.uint64(64)
    while slots >> (np.uint64(64) - shift) > 1:
        shift -= np.uint64(1)
    for n in range(len(values)):
        value = values[n]
        at = np.int64((np.uint64(value) * np.uint64(GOLDEN)) >> shift)
        while table[2 * at + 1] >= 0 and table[2 * at] != value:
            at = (at + 1) & (slots - 1)
        if table[2 * at + 1] < 0:
            table[2 * at], table[2 * at + 1] = value, count
            ids[count] = value
            count += 1
        rows[n] = table[2 * at + 1]
    return count


@numba.njit(cache=True, nogil=True)
def _rows_of_texts(text, starts, ends, table, arena, bounds, count, rows):
    """`table` [slots]: half of an id's hash above its row, or -1. Text n of the vocabulary is arena[bounds[n]:bounds[n + 1]]."""
    slots = len(table)
    for n in range(len(starts)):
        length = ends[n] - starts[n]
        mixed = np.uint64(length)
        for place in range(starts[n], ends[n]):
            mixed = (mixed ^ np.uint64(text[place])) * np.uint64(GOLDEN)
            mixed ^= mixed >> np.uint64(29)
        half = np.int64(mixed & np.uint64(0x7FFFFFFF))
        at = np.int64(mixed >> np.uint64(31)) & (slots - 1)
        row = np.int64(-1)
        while table[at] >= 0:
            if table[at] >> 32 == half:
                known = table[at] & 0xFFFFFFFF
                begin = bounds[known]
                same = bounds[known + 1] - begin == length
                place = 0
                while same and place < length:
                    same = arena[begin + place] == text[starts[n] + place]
                    place += 1
                if same:
                    row = known
                    break
            at = (at + 1) & (slots - 1)
        if row < 0:
            row = np.int64(count)
            begin = bounds[row]
            bounds[row + 1] = begin + length
            table[at] = (half << 32) | row
            for place in range(length):
                arena[begin + place] = text[starts[n] + place]
            count += 1
        rows[n] = row
    return count


def read_only(array: np.ndarray) -> np.ndarray:
    """A view that cannot be written, so that numba compiles once for arrays of ours and buffers of others."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def longer(array: np.ndarray, needed: int) -> np.ndarray:
    """The array itself, or a copy with room for `needed` entries and half as many again."""
    if needed <= len(array):
        return array
    grown = np.empty(max(needed, len(array) * 3 // 2), dtype=array.dtype)
    grown[: len(array)] = array
    return grown


def slots_for(count: int) -> int:
    """The power of two that `count` ids fill to at most two thirds."""
    return 1 << max(10, (count * 3 // 2).bit_length())


class NumberRows:
    """int64 ids, rows in order of first appearance."""

    def __init__(self) -> None:
        self.count = 0
        self._ids = np.empty(0, dtype=np.int64)
        self._table = np.empty(0, dtype=np.int64)

    @property
    def ids(self) -> np.ndarray:
        return self._ids[: self.count]

    def rows(self, values: np.ndarray) -> np.ndarray:
        rows = np.empty(len(values), dtype=np.int32)
        for start in range(0, len(values), CHUNK):
            part, out = read_only(values[start : start + CHUNK]), rows[start : start + CHUNK]
            self._ids = longer(self._ids, self.count + len(part))
            slots = slots_for(self.count + len(part))
            if 2 * slots > len(self._table):
                self._table = np.full(2 * slots, -1, dtype=np.int64)
                old = read_only(self.ids)
                _rows_of_numbers(old, self._table, self._ids, 0, np.empty(len(old), dtype=np.int32))
            self.count = _rows_of_numbers(part, self._table, self._ids, self.count, out)
        return rows


class TextRows:
    """UTF-8 ids, rows in order of first appearance."""

    def __init__(self) -> None:
        self.count = 0
        self._arena = np.empty(0, dtype=np.uint8)
        self._bounds = np.zeros(1, dtype=np.int64)
        self._table = np.empty(0, dtype=np.int64)

    @property
    def ids(self) -> list[str]:
        import pyarrow as pa

        bounds, arena = pa.py_buffer(self._bounds[: self.count + 1]), pa.py_buffer(self._arena)
        return pa.LargeStringArray.from_buffers(self.count, bounds, arena).to_pylist()

    def rows(self, text: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Of the byte ranges text[starts:ends], which must lie in order."""
        rows = np.empty(len(starts), dtype=np.int32)
        for start in range(0, len(starts), CHUNK):
            part = slice(start, start + CHUNK)
            first, last = read_only(starts[part]), read_only(ends[part])
            needed = self.count + len(first)
            self._arena = longer(self._arena, int(self._bounds[self.count] + last[-1] - first[0]))
            self._bounds = longer(self._bounds, needed + 1)
            if slots_for(needed) > len(self._table):
                self._table = np.full(slots_for(needed), -1, dtype=np.int64)
                bounds = read_only(self._bounds[: self.count + 1])
                self._fill(read_only(self._arena), bounds[:-1], bounds[1:], 0, np.empty(self.count, dtype=np.int32))
            self.count = self._fill(read_only(text), first, last, self.count, rows[part])
        return rows

    def _fill(self, text: np.ndarray, starts: np.ndarray, ends: np.ndarray, count: int, rows: np.ndarray) -> int:
        return _rows_of_texts(text, starts, ends, self._table, self._arena, self._bounds, count, rows)


class IdRows:
    """Ids of one column: whole numbers as long as each prints back the same, text from the first that does not.

    `whole=False`: text from the start, also where it looks like numbers.
    """

    def __init__(self, *, whole: bool = True) -> None:
        self._known: NumberRows | TextRows = NumberRows() if whole else TextRows()

    def __len__(self) -> int:
        return self._known.count

    def of_numbers(self, values: np.ndarray) -> np.ndarray:
        """int32 rows of int64 values."""
        if isinstance(self._known, NumberRows):
            return self._known.rows(values)
        return self.of_texts(*bytes_of(values))

    def of_texts(self, text: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """int32 rows of the byte ranges text[starts:ends], which must lie in order."""
        if isinstance(self._known, NumberRows):
            values = np.empty(len(starts), dtype=np.int64)
            if _whole_numbers(read_only(text), read_only(starts), read_only(ends), values) == len(starts):
                return self._known.rows(values)
            numbers, self._known = self._known.ids, TextRows()
            self._known.rows(*bytes_of(numbers))
        return self._known.rows(text, starts, ends)

    def finish(self, rows: np.ndarray, what: str, where: Callable[[int], str], *, strip: bool) -> np.ndarray:
        """The distinct ids. `rows` [E], all that were handed out, may be renumbered in place.

        `strip`: blanks around an id are not part of it, so two rows may become one, and texts may turn out to be numbers.
        Raises: ValueError at the first empty id.
        """
        if isinstance(self._known, NumberRows):
            return self._known.ids.copy()
        texts = np.array(self._known.ids, dtype=object)
        self._known = TextRows()
        bare = np.array([text.strip() for text in texts], dtype=object)
        if (bare == "").any():
            empty = int(np.flatnonzero((bare == "")[rows])[0])
            raise ValueError(f"{where(empty)}: the {what} id is empty")
        if not strip:
            return texts
        again, distinct = pd.factorize(bare)
        if len(distinct) < len(texts):
            renumber(again.astype(np.int32), rows, out=rows)
        numbers = whole_numbers(np.asarray(distinct))
        return np.asarray(distinct, dtype=object) if numbers is None else numbers


def bytes_of(values: np.ndarray | list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Text, starts and ends of printed values."""
    import pyarrow as pa

    return ranges_of(pa.array(values).cast(pa.large_string()))


def ranges_of(array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # type: ignore[no-untyped-def]
    """Text, starts and ends of an Arrow large_string array without gaps, not copied."""
    _, offsets, data = array.buffers()
    text = np.frombuffer(data, dtype=np.uint8) if data is not None and data.size else np.empty(0, dtype=np.uint8)
    bounds = np.frombuffer(offsets, dtype=np.int64)[array.offset : array.offset + len(array) + 1]
    return text, bounds[:-1], bounds[1:]


def whole_numbers(texts: np.ndarray) -> np.ndarray | None:
    """The int64 values of distinct texts, if each prints back the same (so not ``007``); else None."""
    try:
        numbers = texts.astype(np.int64)
    except (ValueError, OverflowError):
        return None
    return numbers if np.array_equal(numbers.astype(str).astype(object), texts) else None
