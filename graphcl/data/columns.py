"""Columns of a table: which is which, and from what stands in them to ids, numbers and times."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from graphcl.data.nearest import nearest


class MissingColumn(ValueError):
    """A table has not the column that is asked for."""


Where = Callable[[int], str]  # row -> "ratings.csv:17", the place that an error names

# Spelled without case, blanks and punctuation: userId, user_id and "User ID" are all "userid".
WELL_KNOWN = {
    "user": [
        "user",
        "userid",
        "uid",
        "users",
        "customer",
        "customerid",
        "client",
        "clientid",
        "visitor",
        "visitorid",
        "member",
        "memberid",
        "reviewer",
        "reviewerid",
        "account",
        "accountid",
    ],
    "item": [
        "item",
        "itemid",
        "iid",
        "items",
        "product",
        "productid",
        "movie",
        "movieid",
        "book",
        "bookid",
        "isbn",
        "asin",
        "parentasin",
        "artist",
        "artistid",
        "song",
        "songid",
        "track",
        "trackid",
        "business",
        "businessid",
        "location",
        "locationid",
        "venue",
        "venueid",
        "poi",
        "poiid",
        "article",
        "articleid",
        "news",
        "newsid",
        "game",
        "gameid",
    ],
    "time": [
        "time",
        "timestamp",
        "date",
        "datetime",
        "ts",
        "unixtime",
        "unixreviewtime",
        "reviewtime",
        "eventtime",
        "createdat",
    ],
    "rating": ["rating", "ratings", "score", "scores", "star", "stars", "overall"],
}

_LIKE_A_TIME = re.compile(r"(?:^|[^a-z]|(?<=[a-z])(?=[A-Z]))(?i:at|on|when|date|time|datetime|timestamp|ts|day|played|visited)$")

_MISSING = "is missing; {}_col='' reads the log without"


def role(name: str) -> str | None:
    """What a well-known column name stands for."""
    plain = re.sub(r"[^0-9a-z]", "", name.lower())
    return next((role for role, names in WELL_KNOWN.items() if plain in names), None)


def choose(names: Sequence[str], given: dict[str, str | None], where: str) -> dict[str, str]:
    """Role -> column, of the columns asked for and, for the rest, of the well-known names. "" asks for no time, or no rating.

    Raises: ValueError where a column is missing or two could be meant.
    """
    listed = ", ".join(map(str, names))
    if len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise ValueError(f"{where}: column {twice!r} stands twice; the columns are: {listed}")
    asked_for = [column for column in given.values() if column]
    for column in asked_for:
        if asked_for.count(column) > 1:
            both = " and ".join(what for what, name in given.items() if name == column)
            raise ValueError(f"{where}: column {column!r} cannot be {both} at once")
    chosen: dict[str, str] = {}
    for what in WELL_KNOWN:
        asked = given.get(what)
        if asked == "" and what in ("time", "rating"):
            continue
        if asked is not None:
            if asked not in names:
                hint = nearest(str(asked), map(str, names))
                raise MissingColumn(f"{where}: no column {asked!r} for the {what}{hint}; the columns are: {listed}")
            chosen[what] = asked
            continue
        candidates = [name for name in names if role(str(name)) == what and name not in asked_for]
        if len(candidates) > 1:
            both = " and ".join(repr(name) for name in candidates)
            raise ValueError(f"{where}: {both} could each be the {what}; say which: {what}_col= (--{what}-col)")
        if candidates:
            chosen[what] = candidates[0]
        elif what in ("user", "item"):
            raise MissingColumn(
                f"{where}: no column is known to hold the {what}; name it with {what}_col= (--{what}-col). "
                f"The columns are: {listed}"
            )
    if "time" not in chosen and given.get("time") is None:
        left = [str(name) for name in names if name not in chosen.values()]
        like = [name for name in left if _LIKE_A_TIME.search(name.lower() if name.isupper() else name)]
        if like:
            warnings.warn(
                f"{where}: rows are taken to have no time; if {' or '.join(like)} is one, say time_col= (--time-col), else time_col=''",
                stacklevel=5,
            )
    return chosen


def factorize(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int32 rows in order of first appearance, and the distinct values. Raises: ValueError for lists and the like."""
    try:
        rows, distinct = pd.factorize(values)
    except TypeError:  # of what has no hash
        kind = next(type(value).__name__ for value in values if getattr(value, "__hash__", None) is None)
        raise ValueError(
            f"ids must be numbers, text or dates, one a row, but a column of ids holds values of type {kind}"
        ) from None
    return rows.astype(np.int32), np.asarray(distinct)


def ids_of_values(column: pd.Series, what: str, where: Where) -> tuple[np.ndarray, np.ndarray]:
    """Rows and ids of a typed column: whole numbers stay int64, anything else (dates too) becomes its text.

    Raises: ValueError at a missing or empty id, at a fraction, and for two ids that print alike (1 and "1").
    """
    missing = column.isna().to_numpy()
    if missing.any():
        raise ValueError(f"{where(int(missing.argmax()))}: the {what} id is missing")
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    if pd.api.types.is_float_dtype(column.dtype):
        numbers = column.to_numpy(dtype=np.float64)
        whole = (numbers == np.floor(numbers)) & (np.abs(numbers) < 2.0**53)
        if not whole.all():
            bad = int((~whole).argmax())
            raise ValueError(f"{where(bad)}: the {what} id {numbers[bad]} is not a whole number; give ids as int or text")
        return factorize(numbers.astype(np.int64))
    if pd.api.types.is_integer_dtype(column.dtype):
        numbers = column.to_numpy()
        if numbers.dtype.kind == "u" and len(numbers) and numbers.max() > np.iinfo(np.int64).max:
            rows, distinct = factorize(numbers)
            return rows, distinct.astype(str).astype(object)
        return factorize(numbers.astype(np.int64))
    rows, distinct = factorize(column.to_numpy(dtype=object))
    if any(isinstance(value, bytes) for value in distinct):
        distinct = np.array([_decoded(value, what) for value in distinct], dtype=object)
    if all(type(value) is int or isinstance(value, np.integer) for value in distinct):
        try:
            return rows, distinct.astype(np.int64)
        except OverflowError:
            pass
    texts = np.array([str(value) for value in distinct], dtype=object)
    blank = np.array([not text.strip() for text in texts], dtype=bool)
    if blank.any():
        empty = int(np.flatnonzero(blank[rows])[0])
        raise ValueError(f"{where(empty)}: the {what} id is empty")
    if len(set(texts)) < len(texts):
        alike = pd.Series(texts)[pd.Series(texts).duplicated()].iloc[0]
        raise ValueError(f"{where(0)}: {what} ids of two types print as {alike!r}; make the column one type")
    return rows, texts


def _decoded(value: object, what: str) -> object:
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        raise ValueError(f"the {what} id {value!r} is bytes, but no UTF-8 text; make the column text or numbers") from None


def numbers_of(column: pd.Series, what: str, where: Where) -> np.ndarray:
    """float64 values.

    Raises: ValueError at the first that is missing, text or not finite.
    """
    numbers = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    bad = ~np.isfinite(numbers)
    if bad.any():
        row = int(bad.argmax())
        value = column.iloc[row]
        said = _MISSING.format(what) if pd.isna(value) or str(value).strip() == "" else f"{value!s:.40} is not a finite number"
        raise ValueError(f"{where(row)}: the {what} {said}")
    return numbers


def are_dates(column: pd.Series) -> bool:
    """Whether a column of times holds dates, told by its type and its first value."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return True
    if pd.api.types.is_numeric_dtype(column.dtype) or not len(column):
        return False
    return bool(pd.isna(pd.to_numeric(column.iloc[:1], errors="coerce").iloc[0]))


def seconds_of(column: pd.Series, what: str, where: Where, *, dates: bool) -> np.ndarray:
    """float64: numbers as they are; datetimes and ISO 8601 texts as seconds since 1970 (UTC where no zone is given).

    Raises: ValueError at the first that is missing or neither.
    """
    if not dates:
        return numbers_of(column, what, where)
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        stamps = pd.to_datetime(column, utc=True)
    else:
        text = column.astype(str).where(~column.isna(), None)
        stamps = pd.to_datetime(text, format="ISO8601", utc=True, errors="coerce")
    missing = stamps.isna().to_numpy()
    if missing.any():
        row = int(missing.argmax())
        value = column.iloc[row]
        absent = pd.isna(value) or str(value).strip() == ""
        number = not absent and pd.notna(pd.to_numeric(str(value), errors="coerce"))
        wrong = "is a number, but others of the column are dates" if number else "is neither a number nor an ISO 8601 date"
        said = _MISSING.format(what) if absent else f"{value!s:.40} {wrong}"
        raise ValueError(f"{where(row)}: the {what} {said}")
    naive = stamps.dt.tz_convert(None).to_numpy()
    return naive.astype("datetime64[us]").astype(np.int64) / 1e6
