"""Texts in fields: tables, triples and adjacency lines, read in blocks of lines."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from graphcl.data.columns import choose
from graphcl.data.encode import IdRows, ranges_of
from graphcl.data.formats import Columns, Filling
from graphcl.data.sniff import Layout
from graphcl.data.survey import Lines, blocks_of_lines, tokens


def line_of(path: Path, layout: Layout, row: int) -> int:
    """The number of the line where a row begins. Reads the text again: only an error asks."""
    before = 0
    row += layout.header
    for block in blocks_of_lines(path, quoted=layout.quoted):
        lines = Lines(block, layout.quoted, before)
        if row < len(lines):
            return int(lines.numbers[row])
        row, before = row - len(lines), lines.after
    raise AssertionError(f"{path} has no such row; was it changed meanwhile?")


def read_table(path: Path, layout: Layout, given: dict[str, str | None]) -> Columns:
    """A delimited text: csv, tsv, triples, or the body of an .inter file."""
    if layout.num_rows < 1:
        raise ValueError(f"{path}: a header and no rows")

    def where(row: int) -> str:
        return f"{path}:{line_of(path, layout, row)}"

    chosen = choose(layout.names, given, str(path))
    filling, users, items = Filling(layout.num_rows, chosen), IdRows(), IdRows()
    header = layout.header
    for block in blocks_of_lines(path, quoted=layout.quoted):
        if header:
            lines = Lines(block, layout.quoted)
            header = not len(lines)
            block = block[lines.starts[1] :] if len(lines) > 1 else b""
        if layout.delimiter == " ":
            block = re.sub(rb"[ \t]+", b" ", re.sub(rb"(?m)^[ \t]+|[ \t\r]+$", b"", block))
        if not block or block.isspace():
            continue
        table = parsed(block, chosen, layout, lambda: where(filling.filled))
        if filling.filled + table.num_rows > layout.num_rows:
            break
        rows = [ids.of_texts(*ranges_of(table[chosen[what]])) for ids, what in ((users, "user"), (items, "item"))]
        rating = numbers_if(table[chosen["rating"]]) if "rating" in chosen else None
        time = numbers_if(table[chosen["time"]], not filling.dates) if "time" in chosen else None
        filling.add(rows[0], rows[1], rating, time, where)
    if filling.filled != layout.num_rows:  # a row of nothing but quotes or the like: line numbers would lie
        raise ValueError(f"{path}: {layout.num_rows} lines did not give as many rows; are its quotes closed?")
    columns = filling.finish(users, items, where, strip=True)
    if not layout.header and len(layout.names) == 3 and columns.rating is not None and columns.rating.min() >= 1e8:
        warnings.warn(
            f"{path}: the third column is read as a rating but looks like a time; a header `user,item,time` would say so",
            stacklevel=4,
        )
    return columns


def parsed(block: bytes, chosen: dict[str, str], layout: Layout, begin: Callable[[], str]) -> Any:
    """An Arrow record batch of strings.

    Raises: ValueError naming the line that the block begins with, where it is no table.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    try:
        return (
            arrow_csv.read_csv(
                io.BytesIO(block),
                arrow_csv.ReadOptions(column_names=layout.names, block_size=len(block) + 1, use_threads=False),
                arrow_csv.ParseOptions(
                    delimiter=layout.delimiter,
                    quote_char='"' if layout.quoted else False,
                    newlines_in_values=layout.quoted,
                ),
                arrow_csv.ConvertOptions(
                    include_columns=list(chosen.values()),
                    column_types=dict.fromkeys(layout.names, pa.large_string()),
                    strings_can_be_null=False,
                    check_utf8=False,
                ),
            )
            .combine_chunks()
            .to_batches()[0]
        )
    except pa.ArrowInvalid as error:
        lines = Lines(block, layout.quoted)  # a line of blanks is none, but Arrow passes over empty ones alone
        kept = b"".join(block[start : end + 1] for start, end in zip(lines.starts, lines.ends, strict=True))
        if len(kept) < len(block):
            return parsed(kept, chosen, layout, begin)
        reason = re.sub(r"Row #\d+: ", "", str(error))
        raise ValueError(f"{begin()}: no table can be read from here on ({reason})") from None


def numbers_if(column: Any, numeric: bool = True) -> pd.Series:
    """float64 if that is what the strings should be and Arrow finds nothing but finite numbers, else the strings."""
    import pyarrow as pa

    if numeric:
        try:
            numbers = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        except pa.ArrowInvalid:
            numbers = None
        if numbers is not None and np.isfinite(numbers).all():
            return pd.Series(numbers)
    return column.to_pandas()


def read_adjacency(path: Path, layout: Layout) -> Columns:
    """Lines of `user item item ...`, or `user:item item ...`. A user without items has no rows.

    Raises: ValueError for a line that starts with a colon, and where no line has an item.
    """
    filling, users, items = Filling(layout.num_rows, {}), IdRows(), IdRows()
    before = 0
    for block in blocks_of_lines(path):
        text = np.frombuffer(block, dtype=np.uint8)
        blank, newlines = text <= ord(" "), np.flatnonzero(text == ord("\n"))
        if layout.delimiter == ":":
            colon = text == ord(":")
            check_colons(text, colon, newlines, path, before)
            blank |= colon
        before += len(newlines)
        starts, ends = tokens(blank)
        if not len(starts):
            continue
        line = np.searchsorted(newlines, starts)
        leads = np.concatenate([[True], line[1:] != line[:-1]])
        lengths = np.bincount(np.cumsum(leads) - 1) - 1
        full = lengths > 0
        of_line = users.of_texts(text, starts[leads][full], ends[leads][full])
        rows = items.of_texts(text, starts[~leads], ends[~leads])
        filling.add(np.repeat(of_line, lengths[full]), rows, None, None, str)
    if not filling.filled:
        raise ValueError(f"{path}: no line has an item after its user")
    return filling.finish(users, items, str, strip=False)


def check_colons(text: np.ndarray, colon: np.ndarray, newlines: np.ndarray, path: Path, before: int) -> None:
    """Raises: ValueError unless every line has one colon, which ends its first field."""
    per_line = np.bincount(np.searchsorted(newlines, np.flatnonzero(colon)), minlength=len(newlines) + 1)
    filled = np.bincount(np.searchsorted(newlines, np.flatnonzero(text > ord(" "))), minlength=len(newlines) + 1) > 0
    if np.any(per_line[filled] != 1):
        bad = int(np.flatnonzero(filled & (per_line != 1))[0])
        raise ValueError(f"{path}:{before + bad + 1}: {per_line[bad]} colons; each line must be `user:item item ...`")
