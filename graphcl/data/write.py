"""Interactions to a file, in the formats that `read_interactions` reads."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from graphcl.data.source import expanded, write_atomically
from graphcl.interactions import Interactions

ENDINGS = ".csv, .tsv, .inter (each also .gz), .parquet, .npz"


def write_interactions(interactions: Interactions, path: str | Path) -> Path:
    """Every row, with external ids, in the format that the file's ending names; written whole or not at all.

    `.inter` is RecBole's atomic file. `.npz` is a sparse matrix over the ids themselves, so they must be whole numbers from
    0 up, and there must be no times.

    Raises: ValueError for another ending, and for what the format cannot hold.
    """
    path = expanded(path)
    ending = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    frame = pd.DataFrame(
        {
            "user_id": interactions.user_ids.ids[interactions.users],
            "item_id": interactions.item_ids.ids[interactions.items],
        }
    )
    if interactions.rating is not None:
        frame["rating"] = interactions.rating
    if interactions.time is not None:
        frame["timestamp"] = interactions.time
    if ending in (".csv", ".tsv", ".inter"):
        write_text(frame, path, ending)
    elif path.suffix in (".parquet", ".pq"):
        write_atomically(path, lambda part: frame.to_parquet(part, index=False))
    elif path.suffix == ".npz":
        matrix = id_matrix(frame, interactions, path)
        write_atomically(path, lambda part: save_npz(part, matrix))
    else:
        raise ValueError(f"{path}: no format ends in {path.suffix!r}; known endings: {ENDINGS}")
    return path


def write_text(frame: pd.DataFrame, path: Path, ending: str) -> None:
    cannot, what = ("[\t\n\r]", "tab or line end") if ending == ".inter" else ("\r", "carriage return")
    for column in ("user_id", "item_id"):
        if pd.api.types.is_numeric_dtype(frame[column]):
            continue
        texts = pd.Series(frame[column].unique()).astype(str)
        bad = texts[texts.str.contains(cannot)]
        if len(bad):
            raise ValueError(f"{path}: {column} {bad.iloc[0]!r} holds a {what}, which {ending} cannot; write .parquet")
    if ending == ".inter":
        kinds = {"user_id": "token", "item_id": "token", "rating": "float", "timestamp": "float"}
        frame = frame.rename(columns={name: f"{name}:{kinds[name]}" for name in frame.columns})
    for name in frame.columns:  # 881250949, not 881250949.0
        values = frame[name].to_numpy()
        if values.dtype.kind == "f" and np.all(values == np.floor(values)) and np.abs(values).max() < 2**53:
            frame[name] = values.astype(np.int64)
    separator = "," if ending == ".csv" else "\t"
    quoting = 3 if ending == ".inter" else 0  # csv.QUOTE_NONE, csv.QUOTE_MINIMAL

    def write(part: Path) -> None:
        text = frame.to_csv(index=False, sep=separator, quoting=quoting, lineterminator="\n").encode("utf-8")
        part.write_bytes(gzip.compress(text, mtime=0) if path.suffix == ".gz" else text)

    write_atomically(path, write)


def id_matrix(frame: pd.DataFrame, interactions: Interactions, path: Path) -> sparse.coo_matrix:
    """[largest user id + 1, largest item id + 1], a stored entry per row of the log, repeats kept apart."""
    for what in ("user_id", "item_id"):
        ids = frame[what].to_numpy()
        if ids.dtype == object or ids.min() < 0 or ids.max() >= np.iinfo(np.int32).max:
            raise ValueError(f"{path}: .npz holds ids as row numbers, and not every {what} is a whole number from 0 up")
    if interactions.time is not None:
        raise ValueError(f"{path}: .npz cannot hold times; write .parquet or .csv")
    values = np.ones(len(frame), dtype=np.float32) if interactions.rating is None else interactions.rating
    if np.any(values == 0):
        raise ValueError(f"{path}: .npz cannot hold a rating of 0; write .parquet or .csv")
    users, items = frame["user_id"].to_numpy(), frame["item_id"].to_numpy()
    return sparse.coo_matrix((values, (users, items)), shape=(users.max() + 1, items.max() + 1))


def save_npz(part: Path, matrix: sparse.coo_matrix) -> None:
    with part.open("wb") as file:  # given a name, NumPy would add .npz to it
        sparse.save_npz(file, matrix)
