"""Interaction logs from files, folders and DataFrames."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from graphcl.data.columns import MissingColumn
from graphcl.data.filter import filtered
from graphcl.data.formats import Columns, read_frame, read_npz
from graphcl.data.nearest import nearest
from graphcl.data.parquet import read_parquet
from graphcl.data.sniff import sniff
from graphcl.data.source import expanded
from graphcl.data.table import read_adjacency, read_table
from graphcl.interactions import Interactions, Vocabulary

FORMATS = ("csv", "tsv", "parquet", "inter", "adjacency", "triples", "npz")


MAGIC = {b"PAR1": "parquet", b"PK\x03\x04": "npz"}  # with which files that are no texts begin


def read_interactions(
    source: str | Path | pd.DataFrame,
    *,
    format: str | None = None,
    user_col: str | None = None,
    item_col: str | None = None,
    time_col: str | None = None,
    rating_col: str | None = None,
    min_rating: float | None = None,
    k_core: int | tuple[int, int] | None = None,
    name: str | None = None,
) -> Interactions:
    """Every row of a log, in file order.

    `source`: a DataFrame, or a path to one of

    ========== ==========================================================================================
    csv, tsv   delimiter and header found by sniffing; without a header `user item [rating [time]]`
    parquet    a file, or a folder of them
    inter      RecBole's atomic file, tab separated, header `user_id:token item_id:token ...`
    adjacency  LightGCN's lines `user item item ...`, also `user:item item ...`
    triples    lines `user item [rating [time]]` without a header
    npz        a SciPy sparse matrix, users x items
    ========== ==========================================================================================

    Text may be gzipped; it is read twice (three times if it holds double quotes), in blocks. The peak of memory is under three
    times the result for logs of millions of rows; what is held whole is a text between two double quotes, one with `\\r`
    alone for line ends, and npz. `format` is told from the file where it can be. Columns go by the names given, else by well-known
    ones (`userId`, `movie_id`, `timestamp`, `stars`, ...); `time_col=""` and `rating_col=""` read none.

    Ids: a text column becomes int64 only if every id prints back the same, so `007` stays `007`; ids of Parquet and
    DataFrames stay int64 or become their text (dates too). `NA` and the like are ids as good as any. Time: numbers stay
    as they are, dates become seconds since 1970, UTC where no zone is given. Then rows with a rating under `min_rating`
    go, then users and items with fewer than `k_core` partners (see `filter_rating`, `k_core`).

    Raises: FileNotFoundError, or ValueError naming file and line: a missing column, an unreadable, truncated or empty
    file, lines of unequal length, an ambiguous format, a missing id, a rating or time that is no number.
    """
    given = {"user": user_col, "item": item_col, "time": time_col, "rating": rating_col}
    if format is not None and format not in FORMATS:
        raise ValueError(f"unknown format {format!r}{nearest(format, FORMATS)}; known: {', '.join(FORMATS)}")
    if isinstance(source, pd.DataFrame):
        columns, stem = read_frame(source, given), "interactions"
    else:
        path = expanded(source)
        columns, stem = read_path(path, format, given), path.name.split(".")[0]
    log = Interactions(
        users=columns.users,
        items=columns.items,
        user_ids=Vocabulary(columns.user_ids),
        item_ids=Vocabulary(columns.item_ids),
        time=columns.time,
        rating=None if columns.rating is None else columns.rating.astype(np.float32, copy=False),
        name=name or stem or "interactions",
    )
    return filtered(log, {"min_rating": min_rating, "k_core": k_core})


def read_path(path: Path, format: str | None, given: dict[str, str | None]) -> Columns:
    """Tell the format of a file or folder, then read it."""
    if path.is_dir() and format in (None, "parquet"):
        return read_parquet(path, given)
    if not path.exists():
        known = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise FileNotFoundError(f"{path}: no such file{nearest(path.name, known)}")
    if path.is_dir():
        raise ValueError(f"{path}: a folder, but format {format!r} is a file")
    if format is None:
        with path.open("rb") as file:
            head = file.read(64)
        format = MAGIC.get(head[:4])
        if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[") or (format == "npz" and not _holds_arrays(path)):
            kind = "JSON" if format is None else "a zip archive"
            raise ValueError(f"{path}: {kind}, which is not read; convert it to CSV (which may be gzipped) or Parquet")
    if format == "parquet":
        return read_parquet(path, given)
    if format == "npz":
        reject_names(path, format, given)
        return read_npz(path)
    layout = sniff(path, format, asked=any(given.values()))
    if layout.format == "adjacency":
        reject_names(path, "adjacency", given)
        return read_adjacency(path, layout)
    return read_table(path, layout, given)


def _holds_arrays(path: Path) -> bool:
    """Whether a zip archive is one of NumPy's. A broken one is left to its reader."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".npy") for name in archive.namelist())
    except zipfile.BadZipFile:
        return True


def reject_names(path: Path, format: str, given: dict[str, Any]) -> None:
    """Raises: ValueError if columns are named for a format that has none."""
    for role, column in given.items():
        if column:
            raise MissingColumn(f"{path}: format {format} has no named columns, so {role}_col={column!r} cannot be found")
