"""One reader per format. Each returns `Columns`: what a source says, before it becomes `Interactions`."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from graphcl.data.columns import Where, are_dates, choose, factorize, ids_of_values, numbers_of, seconds_of
from graphcl.data.encode import IdRows
from graphcl.data.source import read_bytes


@dataclass
class Columns:
    """Rows and distinct ids of users and items, with time and rating where the source has them."""

    users: np.ndarray  # [E] int32
    user_ids: np.ndarray
    items: np.ndarray  # [E] int32
    item_ids: np.ndarray
    time: np.ndarray | None = None  # [E] float64
    rating: np.ndarray | None = None  # [E] float32 or float64


class Filling:
    """Columns that are filled block by block; as long as the source, so that nothing is copied when they are full."""

    def __init__(self, num_rows: int, chosen: dict[str, str]) -> None:
        self.users, self.items = np.empty(num_rows, dtype=np.int32), np.empty(num_rows, dtype=np.int32)
        self.rating = np.empty(num_rows, dtype=np.float32) if "rating" in chosen else None
        self.time = np.empty(num_rows, dtype=np.float64) if "time" in chosen else None
        self.dates: bool | None = None  # whether times are dates: the first block says it for all
        self.filled = 0

    def add(self, users: np.ndarray, items: np.ndarray, rating: pd.Series | None, time: pd.Series | None, where: Where) -> None:
        start = self.filled
        stop = self.filled = start + len(users)

        def here(row: int) -> str:
            return where(start + row)

        self.users[start:stop], self.items[start:stop] = users, items
        if self.rating is not None and rating is not None:
            self.rating[start:stop] = numbers_of(rating, "rating", here)
        if self.time is not None and time is not None:
            if self.dates is None:
                self.dates = are_dates(time)
            self.time[start:stop] = seconds_of(time, "time", here, dates=self.dates)

    def finish(self, users: IdRows, items: IdRows, where: Where, *, strip: bool) -> Columns:
        for column in (self.users, self.items, self.rating, self.time):
            if column is not None and self.filled < len(column):
                column.resize(self.filled, refcheck=False)  # gives the rest back, without a copy
        user_ids = users.finish(self.users, "user", where, strip=strip)
        return Columns(
            self.users, user_ids, self.items, items.finish(self.items, "item", where, strip=strip), self.time, self.rating
        )


def of_frame(frame: pd.DataFrame, chosen: dict[str, str], where: Where) -> Columns:
    """From a DataFrame of typed columns."""
    users, user_ids = ids_of_values(frame[chosen["user"]], "user", where)
    items, item_ids = ids_of_values(frame[chosen["item"]], "item", where)
    columns = Columns(users, user_ids, items, item_ids)
    if "rating" in chosen:
        columns.rating = numbers_of(frame[chosen["rating"]], "rating", where)
    if "time" in chosen:
        columns.time = seconds_of(frame[chosen["time"]], "time", where, dates=are_dates(frame[chosen["time"]]))
    return columns


def read_npz(path: Path) -> Columns:
    """A SciPy sparse matrix, users x items; ids are its row and column numbers. Stored zeros are no interactions.

    Values other than ones are ratings. Never unpickles.
    """
    try:
        matrix = sparse.load_npz(io.BytesIO(read_bytes(path))).tocoo()
    except FileNotFoundError:
        raise
    except Exception as error:  # zipfile, numpy and scipy raise a dozen types for damaged or foreign archives
        if str(error).startswith(str(path)):
            raise
        told = "" if "BytesIO" in str(error) else f" ({error})"  # scipy names what it was given
        raise ValueError(f"{path}: not a sparse matrix saved by scipy.sparse.save_npz{told}") from None
    if len(matrix.row) and (
        min(matrix.row.min(), matrix.col.min()) < 0 or matrix.row.max() >= matrix.shape[0] or matrix.col.max() >= matrix.shape[1]
    ):
        raise ValueError(f"{path}: the matrix has entries outside its shape {matrix.shape}")
    stored = matrix.data != 0
    if not stored.any():
        raise ValueError(f"{path}: the matrix has no entries")
    data = matrix.data[stored].astype(np.float64)
    if not np.isfinite(data).all():
        at = int(np.flatnonzero(~np.isfinite(data))[0])
        raise ValueError(f"{path}: entry ({matrix.row[stored][at]}, {matrix.col[stored][at]}) is {data[at]}")
    users, user_ids = factorize(matrix.row[stored].astype(np.int64))
    items, item_ids = factorize(matrix.col[stored].astype(np.int64))
    return Columns(users, user_ids, items, item_ids, rating=None if np.all(data == 1) else data)


def read_frame(frame: pd.DataFrame, given: dict[str, str | None]) -> Columns:
    """A DataFrame; its index is not read."""
    if frame.empty:
        raise ValueError("the DataFrame has no rows")
    chosen = choose(list(frame.columns), given, "the DataFrame")
    return of_frame(frame, chosen, lambda row: f"the DataFrame, row {row + 1}")
