"""How a text file is laid out, told from the whole of it: delimiter, header, and which format that makes it."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass

import numpy as np

from graphcl.data.columns import role

DELIMITERS = (b"\t", b",", b";", b"|")
SPOKEN = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars", " ": "blanks"}
TYPED = re.compile(r"[^:\s]+:(token|float|token_seq|float_seq)")  # RecBole's header fields


@dataclass(frozen=True)
class Layout:
    """`format` is csv (a table, with or without a header), inter, triples or adjacency."""

    format: str
    delimiter: str  # " " stands for runs of blanks
    names: tuple[str, ...] | None  # the header, if the first line is one
    quoted: bool = False  # fields may stand in double quotes, with delimiters and line ends inside


class Lines:
    """The lines of a text that are not blank, and how often a byte stands in each.

    A line end within double quotes, where these are heeded, is part of a field.
    """

    def __init__(self, data: bytes, quoted: bool) -> None:
        self.text = np.frombuffer(data, dtype=np.uint8)
        self.quotes = np.flatnonzero(self.text == ord('"')) if quoted else np.empty(0, dtype=np.int64)
        ends = self.at(b"\n")
        if not len(ends) or ends[-1] != len(data) - 1:
            ends = np.append(ends, len(data))
        starts = np.concatenate([[0], ends[:-1] + 1])
        printed = np.add.reduceat(self.text > ord(" "), starts, dtype=np.int64) > 0
        self.starts, self.ends = starts[printed], ends[printed]
        self.numbers = np.flatnonzero(printed) + 1
        if len(self.quotes):  # numbers as an editor shows them: count line ends in quotes too
            self.numbers = np.searchsorted(np.flatnonzero(self.text == ord("\n")), self.starts) + 1

    def at(self, byte: bytes) -> np.ndarray:
        """Positions of a byte outside quotes."""
        found = np.flatnonzero(self.text == ord(byte))
        if len(self.quotes):
            found = found[np.searchsorted(self.quotes, found) % 2 == 0]
        return found

    def count(self, byte: bytes) -> np.ndarray:
        """How often a byte stands in each line, [lines]."""
        found = self.at(byte)
        return np.searchsorted(found, self.ends) - np.searchsorted(found, self.starts)

    def __getitem__(self, line: int) -> str:
        return self.text[self.starts[line] : self.ends[line]].tobytes().decode("utf-8").strip("\r\n")

    def __len__(self) -> int:
        return len(self.starts)


def number_like(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def fields_of(line: str, delimiter: str, quoted: bool) -> list[str]:
    if delimiter == " ":
        return line.split()
    if quoted:
        return [field.strip() for field in next(csv.reader([line], delimiter=delimiter))]
    return [field.strip() for field in line.split(delimiter)]


def sniff(data: bytes, path: str, format: str | None, *, asked: bool) -> Layout:
    """How to read a text, in the format asked for or the one it shows. `asked`: the caller named columns.

    Raises: ValueError naming file and line for lines of unequal length, an unclear header, or an unclear format.
    """
    if format == "adjacency":
        return Layout("adjacency", " ", None)
    first_line = data.lstrip().split(b"\n", 1)[0].decode("utf-8")
    typed = all(TYPED.fullmatch(field.strip()) for field in first_line.split("\t"))
    if format == "inter" or (format is None and (typed or ".inter" in path)):
        return inter_layout(data, path)
    if format == "tsv" and "\t" not in first_line:
        raise ValueError(f"{path}:1: no tab in it; format 'tsv' is separated by tabs")
    if format is None and "\t" in first_line and is_adjacency(data):
        return Layout("adjacency", " ", None)
    table = sniff_table(data, path, format, asked=asked)
    return table or sniff_blanks(data, path, format, asked=asked)


def inter_layout(data: bytes, path: str) -> Layout:
    """The header of a RecBole atomic file: tab separated `name:type`."""
    lines = Lines(data, quoted=False)
    fields = [field.strip() for field in lines[0].split("\t")]
    for field in fields:
        if not TYPED.fullmatch(field):
            raise ValueError(
                f"{path}:{lines.numbers[0]}: {field!r} is no typed column of an .inter file (user_id:token, "
                "rating:float, ..., separated by tabs)"
            )
    counts = lines.count(b"\t")
    if np.any(counts != counts[0]):
        odd = int(np.argmax(counts != counts[0]))
        raise ValueError(
            f"{path}:{lines.numbers[odd]}: {counts[odd] + 1} fields where the header has {counts[0] + 1} (separated by tabs)"
        )
    return Layout("inter", "\t", tuple(field.rpartition(":")[0] for field in fields))


def is_adjacency(data: bytes) -> bool:
    """Whole numbers only, lines of different length, no user twice."""
    if re.search(rb"[^0-9\s]", data):
        return False
    counts = tokens_per_line(Lines(data, quoted=False))
    return counts.min() < counts.max() and not users_repeat(data)


def users_repeat(data: bytes) -> bool:
    """Whether two lines start with the same field."""
    users = [line.split(None, 1)[0] for line in data.split(b"\n") if line.strip()]
    return len(set(users)) < len(users)


def delimited(data: bytes, path: str) -> tuple[str, bool, Lines] | None:
    """The delimiter that stands equally often in every line, or None if the first line has none at all.

    Raises: ValueError, naming the first line that differs, if the first line has one but others disagree.
    """
    ragged = None
    for quoted in (True, False) if data.count(b'"') and data.count(b'"') % 2 == 0 else (False,):
        lines = Lines(data, quoted)
        for delimiter in DELIMITERS:
            counts = lines.count(delimiter)
            if counts[0] and np.all(counts == counts[0]):
                return delimiter.decode(), quoted, lines
            if counts[0] and ragged is None:
                odd = int(np.argmax(counts != counts[0]))
                ragged = (
                    f"{path}:{lines.numbers[odd]}: {counts[odd] + 1} fields where line {lines.numbers[0]} has "
                    f"{counts[0] + 1} (separated by {SPOKEN[delimiter.decode()]})"
                )
    if ragged:
        raise ValueError(ragged)
    return None


def header_of(fields: list[str], second: list[str] | None, named: bool, table: bool, path: str) -> tuple[str, ...] | None:
    """The first line's fields if they are column names; None if they are values.

    `named`: the caller named columns, so there are names. `table`: the caller said csv or tsv, so text is names.
    Raises: ValueError where it could be either.
    """
    roles = {role(field) for field in fields}
    if named or {"user", "item"} <= roles:
        return tuple(fields)
    if any(number_like(field) or not field for field in fields):
        return None
    numeric_below = second is not None and any(number_like(field) for field in second)
    if table or numeric_below or roles & {"user", "item"}:
        return tuple(fields)
    raise ValueError(
        f"{path}:1: {fields} may be column names or the first interaction; name the columns with user_col= and "
        "item_col= (--user-col, --item-col), or say format='triples' (--format triples) if there is no header"
    )


def sniff_table(data: bytes, path: str, format: str | None, *, asked: bool) -> Layout | None:
    """The layout of a delimited table, or None where neither tabs, commas, semicolons nor bars part the first line.

    Raises: ValueError for lines of unequal length, for an unclear header, and for a table without one that is not
    `user item [rating [time]]`.
    """
    told = delimited(data, path)
    if told is None:
        return None
    delimiter, quoted, lines = told
    first = fields_of(lines[0], delimiter, quoted)
    second = fields_of(lines[1], delimiter, quoted) if len(lines) > 1 else None
    names = None if format == "triples" else header_of(first, second, asked, format in ("csv", "tsv"), path)
    if names is None and len(first) > 4:
        raise ValueError(
            f"{path}:1: {len(first)} columns without a header; the first line must name them, or there must be at most "
            "four: user, item, rating, time"
        )
    return Layout("csv" if names else "triples", delimiter, names, quoted)


def sniff_blanks(data: bytes, path: str, format: str | None, *, asked: bool) -> Layout:
    """The layout of a text whose fields are parted by blanks: a table with a header, triples or adjacency lines.

    Raises: ValueError where triples and adjacency lines cannot be told apart, or lines fit neither.
    """
    lines = Lines(data, quoted=False)
    counts = tokens_per_line(lines)
    first = lines[0].split()
    if counts.max() == 1 and ":" not in first[0]:
        raise ValueError(f"{path}:1: one field; columns must be separated by tabs, commas, semicolons, bars or blanks")
    if asked or format == "csv" or {"user", "item"} <= {role(field) for field in first}:
        even_lines(counts, lines, path)
        return Layout("csv", " ", tuple(first))
    whole = re.search(rb"[^0-9:\s]", data) is None
    if format is None and whole and (b":" in data or is_adjacency(data)):
        return Layout("adjacency", " ", None)
    even_lines(counts, lines, path)
    if format == "triples" or counts[0] == 2 or (counts[0] <= 4 and (not whole or users_repeat(data))):
        if counts[0] > 4:
            raise ValueError(f"{path}:1: {counts[0]} fields; triples have at most four: user, item, rating, time")
        return Layout("triples", " ", None)
    if whole and counts[0] > 4 and not users_repeat(data):
        return Layout("adjacency", " ", None)
    raise ValueError(
        f"{path}: could be `user item rating` triples or `user item item ...` adjacency lines; "
        "say format='triples' or format='adjacency' (--format)"
    )


def even_lines(counts: np.ndarray, lines: Lines, path: str) -> None:
    """Raises: ValueError at the first line whose number of fields is not the commonest one."""
    usual = int(np.bincount(counts).argmax())
    if np.any(counts != usual):
        odd = int(np.argmax(counts != usual))
        raise ValueError(
            f"{path}:{lines.numbers[odd]}: {counts[odd]} fields where most lines have {usual} (separated by blanks); "
            "say format='adjacency' (--format adjacency) if each line is a user and their items"
        )


def tokens_per_line(lines: Lines) -> np.ndarray:
    """Fields parted by runs of blanks, [lines]."""
    printed = lines.text > ord(" ")
    begins = np.flatnonzero(printed & ~np.concatenate([[False], printed[:-1]]))
    return np.searchsorted(begins, lines.ends) - np.searchsorted(begins, lines.starts)
