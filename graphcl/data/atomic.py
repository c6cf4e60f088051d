"""RecBole's atomic files beside the log (``.item``, ``.user``, ``.kg``, ``.link``): tab-separated texts whose header says ``name:type``."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from graphcl.data.columns import MissingColumn
from graphcl.data.nearest import nearest
from graphcl.data.sniff import TYPED, sniff
from graphcl.data.source import read_text


def read_atomic(path: Path, needed: Sequence[str]) -> tuple[pd.DataFrame, dict[str, str]]:
    """All fields as text, and the type of each column: token, float, token_seq or float_seq. ``needed`` columns are filled in each row.

    Raises:
        ValueError: naming file and line: a header that is none, a column that is missing, a line of another length, an empty id.
    """
    text = read_text(path)
    first, fields = next((n, line.split("\t")) for n, line in enumerate(text.decode().split("\n"), 1) if line.strip())
    types = {}
    for field in (field.strip() for field in fields):
        if not TYPED.fullmatch(field):
            raise ValueError(
                f"{path}:{first}: {field!r} is no typed column such as {needed[0]}:token; columns are parted by tabs"
            )
        name, _, kind = field.rpartition(":")
        if name in types:
            raise ValueError(f"{path}:{first}: column {name!r} stands twice")
        types[name] = kind
    for name in needed:
        if name not in types:
            raise MissingColumn(f"{path}:{first}: no column {name!r}{nearest(name, types)}; the columns are: {', '.join(types)}")
    sniff(path, "inter", asked=True)  # lines of another length
    frame = pd.read_csv(
        io.BytesIO(text), sep="\t", header=0, names=list(types), dtype=str, quoting=csv.QUOTE_NONE, na_filter=False
    ).map(str.strip)
    for name in needed:
        empty = (frame[name] == "").to_numpy()
        if empty.any():
            raise ValueError(f"{path}:{line_of(text, 1 + int(empty.argmax()))}: the {name} is empty")
    return frame, types


def line_of(text: bytes, row: int) -> int:
    """The number of the line that holds a row, the header being row 0; blank lines are none."""
    filled = [number for number, line in enumerate(text.split(b"\n"), 1) if line.strip(b" \r")]
    return filled[row]
