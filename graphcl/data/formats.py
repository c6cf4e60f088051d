"""One reader per format. Each returns `Columns`: what a file says, before it becomes `Interactions`."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from graphcl.data.columns import (
    Where,
    choose,
    factorize,
    ids_of_text,
    ids_of_values,
    numbers_of,
    seconds_of,
    whole_numbers,
)
from graphcl.data.sniff import Layout, Lines, fields_of
from graphcl.data.source import read_bytes


@dataclass
class Columns:
    """Rows and distinct ids of users and items, with time and rating where the source has them."""

    users: np.ndarray  # [E] int32
    user_ids: np.ndarray
    items: np.ndarray  # [E] int32
    item_ids: np.ndarray
    time: np.ndarray | None = None  # [E] float64
    rating: np.ndarray | None = None  # [E] float64


def of_text(table: Any, chosen: dict[str, str], where: Where) -> Columns:
    """From an Arrow table of strings."""
    users, user_ids = ids_of_text(table[chosen["user"]], "user", where)
    items, item_ids = ids_of_text(table[chosen["item"]], "item", where)
    columns = Columns(users, user_ids, items, item_ids)
    if "rating" in chosen:
        columns.rating = numbers_of(table[chosen["rating"]].to_pandas(), "rating", where)
    if "time" in chosen:
        columns.time = seconds_of(table[chosen["time"]].to_pandas(), "time", where)
    return columns


def of_frame(frame: pd.DataFrame, chosen: dict[str, str], where: Where) -> Columns:
    """From a DataFrame of typed columns."""
    users, user_ids = ids_of_values(frame[chosen["user"]], "user", where)
    items, item_ids = ids_of_values(frame[chosen["item"]], "item", where)
    columns = Columns(users, user_ids, items, item_ids)
    if "rating" in chosen:
        columns.rating = numbers_of(frame[chosen["rating"]], "rating", where)
    if "time" in chosen:
        columns.time = seconds_of(frame[chosen["time"]], "time", where)
    return columns


def read_table(data: bytes, path: Path, layout: Layout, given: dict[str, str | None]) -> Columns:
    """A delimited text: csv, tsv, triples, or the body of an .inter file."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    lines = Lines(data, layout.quoted)
    first = 1 if layout.names else 0
    if len(lines) <= first:
        raise ValueError(f"{path}: a header and no rows")

    def where(row: int) -> str:
        return f"{path}:{lines.numbers[row + first]}"

    width = len(layout.names) if layout.names else len(fields_of(lines[0], layout.delimiter, layout.quoted))
    names = list(layout.names or ("user", "item", "rating", "time")[:width])
    chosen = choose(names, given, str(path))
    body = data[lines.starts[first] :]
    if layout.delimiter == " ":
        body = re.sub(rb"[ \t]+", b" ", re.sub(rb"(?m)^[ \t]+|[ \t\r]+$", b"", body))
    try:
        table = arrow_csv.read_csv(
            io.BytesIO(body),
            arrow_csv.ReadOptions(column_names=names, block_size=1 << 24),
            arrow_csv.ParseOptions(
                delimiter=layout.delimiter,
                quote_char='"' if layout.quoted else False,
                newlines_in_values=layout.quoted,
            ),
            arrow_csv.ConvertOptions(
                include_columns=list(chosen.values()),
                column_types={name: pa.large_string() for name in names},
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: not a table that can be read ({error})") from None
    if table.num_rows != len(lines) - first:  # a row of nothing but quotes or the like: line numbers would lie
        raise ValueError(f"{path}: {len(lines) - first} lines gave {table.num_rows} rows; are its quotes closed?")
    columns = of_text(table, chosen, where)
    if layout.names is None and width == 3 and columns.rating is not None and columns.rating.min() >= 1e8:
        warnings.warn(
            f"{path}: the third column is read as a rating but looks like a time; a header `user,item,time` would say so",
            stacklevel=4,
        )
    return columns


def read_adjacency(data: bytes, path: Path) -> Columns:
    """Lines of `user item item ...`, or `user:item item ...`. A user without items has no rows.

    Raises: ValueError for a line that starts with a colon, and where no line has an item.
    """
    text = np.frombuffer(data, dtype=np.uint8)
    colon = (text == ord(":")) if b":" in data else None
    blank = text <= ord(" ") if colon is None else (text <= ord(" ")) | colon
    edges = np.flatnonzero(np.diff(np.concatenate([[True], blank, [True]]).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    newlines = np.flatnonzero(text == ord("\n"))
    line = np.searchsorted(newlines, starts)
    leads = np.concatenate([[True], line[1:] != line[:-1]])
    if colon is not None:
        check_colons(text, colon, newlines, path)
    lengths = np.bincount(np.cumsum(leads) - 1) - 1
    items, item_ids = ids_of_tokens(text, starts[~leads], ends[~leads])
    if not len(items):
        raise ValueError(f"{path}: no line has an item after its user")
    full = lengths > 0
    users, user_ids = ids_of_tokens(text, starts[leads][full], ends[leads][full])
    return Columns(np.repeat(users, lengths[full]), user_ids, items, item_ids)


def check_colons(text: np.ndarray, colon: np.ndarray, newlines: np.ndarray, path: Path) -> None:
    """Raises: ValueError unless every line has one colon, which ends its first field."""
    per_line = np.bincount(np.searchsorted(newlines, np.flatnonzero(colon)), minlength=len(newlines) + 1)
    filled = np.bincount(np.searchsorted(newlines, np.flatnonzero(text > ord(" "))), minlength=len(newlines) + 1) > 0
    if np.any(per_line[filled] != 1):
        bad = int(np.flatnonzero(filled & (per_line != 1))[0])
        raise ValueError(f"{path}:{bad + 1}: {per_line[bad]} colons; each line must be `user:item item ...`")


def ids_of_tokens(text: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and ids of the byte ranges: int64 if each prints back the same, else text.

    Plain digits, the usual case, are summed place by place over all tokens at once.
    """
    length = ends - starts
    longest = int(length.max(initial=0))
    if longest <= 18 and not np.any((length > 1) & (text[starts] == ord("0"))):
        value = np.zeros(len(starts), dtype=np.int64)
        for place in range(longest):
            within = length > place
            digit = text[starts[within] + place].astype(np.int64) - ord("0")
            if np.any((digit < 0) | (digit > 9)):
                break
            value[within] = value[within] * 10 + digit
        else:
            return factorize(value)
    whole = text.tobytes()
    tokens = np.array([whole[a:b].decode("utf-8") for a, b in zip(starts, ends, strict=True)], dtype=object)
    rows, distinct = factorize(tokens)
    numbers = whole_numbers(distinct)
    return rows, distinct if numbers is None else numbers


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
        raise ValueError(f"{path}: not a sparse matrix saved by scipy.sparse.save_npz ({error})") from None
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


def read_parquet(path: Path, given: dict[str, str | None]) -> Columns:
    """A Parquet file, or a folder of them (with `key=value` partitions)."""
    import pyarrow as pa
    from pyarrow import dataset as arrow_dataset

    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        source = arrow_dataset.dataset(path, format="parquet", partitioning="hive", exclude_invalid_files=False)
        chosen = choose(source.schema.names, given, str(path))
        table = source.to_table(columns=list(chosen.values()))
    except (pa.ArrowException, OSError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"{path}: not a Parquet file that can be read ({reason})") from None
    if table.num_rows == 0:
        raise ValueError(f"{path}: the file has no rows")

    def where(row: int) -> str:
        return f"{path}, row {row + 1}"

    for what in ("user", "item"):  # before pandas turns whole numbers with gaps into floats
        column = table[chosen[what]]
        if column.null_count:
            row = int(np.argmax(column.is_null().to_numpy()))
            raise ValueError(f"{where(row)}: the {what} id is missing")
    return of_frame(table.to_pandas(), chosen, where)


def read_frame(frame: pd.DataFrame, given: dict[str, str | None]) -> Columns:
    """A DataFrame; its index is not read."""
    if frame.empty:
        raise ValueError("the DataFrame has no rows")
    chosen = choose(list(frame.columns), given, "the DataFrame")
    return of_frame(frame, chosen, lambda row: f"the DataFrame, row {row + 1}")
