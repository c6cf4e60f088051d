"""How a text file is laid out, told from the whole of it: delimiter, header, and which format that makes it."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from graphcl.data.columns import role
from graphcl.data.survey import DELIMITERS, Survey, survey

SPOKEN = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars", " ": "blanks"}
DECIMAL_COMMAS = re.compile(r"[^,;\t|]+;[^,;\t|]+(;[-+]?\d+(,\d+)?)+")  # user;item;3,5
TYPED = re.compile(r"[^:\s]+:(token|float|token_seq|float_seq)")  # RecBole's header fields


@dataclass(frozen=True)
class Layout:
    """`format` is csv (a table, with or without a header), inter, triples or adjacency."""

    format: str
    delimiter: str  # " " stands for runs of blanks, ":" for one colon behind the first field and runs of blanks
    names: tuple[str, ...]  # of the columns; none for adjacency lines
    num_rows: int  # without the header; of adjacency lines, an upper bound
    header: bool = False  # the first line holds the names
    quoted: bool = False  # fields may stand in double quotes, with delimiters and line ends inside


UNNAMED = ("user", "item", "rating", "time")  # the columns of triples


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


def sniff(path: Path, format: str | None, *, asked: bool) -> Layout:
    """How to read a text, in the format asked for or the one it shows. `asked`: the caller named columns.

    Raises: ValueError naming file and line for lines of unequal length, an unclear header, or an unclear format.
    """
    found = survey(path, tokens_too=format == "adjacency")
    if format == "adjacency":
        return adjacency_layout(found)
    first_line = found.head[0].lstrip()
    typed = all(TYPED.fullmatch(field.strip()) for field in first_line.split("\t"))
    if format == "inter" or (format is None and (typed or ".inter" in found.path)):
        return inter_layout(found)
    if format == "tsv" and "\t" not in first_line:
        raise ValueError(f"{path}:1: no tab in it; format 'tsv' is separated by tabs")
    if format is None and "\t" in first_line and is_adjacency(found):
        return adjacency_layout(found)
    return sniff_table(found, format, asked) or sniff_blanks(found, format, asked)


def adjacency_layout(found: Survey) -> Layout:
    return Layout("adjacency", ":" if found.colon else " ", (), found.num_tokens - (0 if found.colon else found.num_lines))


def inter_layout(found: Survey) -> Layout:
    """The header of a RecBole atomic file: tab separated `name:type`."""
    fields = [field.strip() for field in found.head[0].split("\t")]
    for field in fields:
        if not TYPED.fullmatch(field):
            raise ValueError(
                f"{found.path}:{found.number}: {field!r} is no typed column of an .inter file (user_id:token, "
                "rating:float, ..., separated by tabs)"
            )
    if b"\t" in found.odd:
        (number, count), usual = found.odd[b"\t"], found.per_line[b"\t"]
        raise ValueError(f"{found.path}:{number}: {count + 1} fields where the header has {usual + 1} (separated by tabs)")
    return Layout("inter", "\t", tuple(field.rpartition(":")[0] for field in fields), found.num_lines - 1, header=True)


def is_adjacency(found: Survey) -> bool:
    """Whole numbers only, lines of different length, no user twice."""
    return found.whole and not found.users_repeat and len(found.token_counts) > 1


def delimited(found: Survey) -> tuple[str, Survey] | None:
    """The delimiter that stands equally often in every line, or None if the first line has none at all.

    Raises: ValueError, naming the first line that differs, if the first line has one but others disagree.
    """
    ragged = None
    heeding = survey(Path(found.path), quoted=True) if found.quotes and found.quotes % 2 == 0 else None
    for each in (found,) if heeding is None or heeding.loose else (heeding, found):
        if all(DECIMAL_COMMAS.fullmatch(line) for line in each.head) and not {b",", b";"} & each.odd.keys():
            return ";", each
        for delimiter in DELIMITERS:
            if not each.per_line[delimiter]:
                continue
            if delimiter not in each.odd:
                return delimiter.decode(), each
            if ragged is None:
                number, count = each.odd[delimiter]
                ragged = (
                    f"{each.path}:{number}: {count + 1} fields where line {each.number} has "
                    f"{each.per_line[delimiter] + 1} (separated by {SPOKEN[delimiter.decode()]})"
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


def sniff_table(found: Survey, format: str | None, asked: bool) -> Layout | None:
    """The layout of a delimited table, or None where neither tabs, commas, semicolons nor bars part the first line.

    Raises: ValueError for lines of unequal length, for an unclear header, and for a table without one that is not
    `user item [rating [time]]`.
    """
    told = delimited(found)
    if told is None:
        return None
    delimiter, found = told
    first, *rest = (fields_of(line, delimiter, found.quoted) for line in found.head)
    second = rest[0] if rest else None
    names = None if format == "triples" else header_of(first, second, asked, format in ("csv", "tsv"), found.path)
    if names is None and len(first) > 4:
        raise ValueError(
            f"{found.path}:1: {len(first)} columns without a header; the first line must name them, or there must be at most "
            "four: user, item, rating, time"
        )
    if names is None:
        return Layout("triples", delimiter, UNNAMED[: len(first)], found.num_lines, quoted=found.quoted)
    return Layout("csv", delimiter, names, found.num_lines - 1, header=True, quoted=found.quoted)


def sniff_blanks(found: Survey, format: str | None, asked: bool) -> Layout:
    """The layout of a text whose fields are parted by blanks: a table with a header, triples or adjacency lines.

    Raises: ValueError where triples and adjacency lines cannot be told apart, or lines fit neither.
    """
    path, first = found.path, found.head[0].split()
    if list(found.token_counts) == [1] and ":" not in first[0]:
        raise ValueError(f"{path}:1: one field; columns must be separated by tabs, commas, semicolons, bars or blanks")
    if asked or format == "csv" or {"user", "item"} <= {role(field) for field in first}:
        even_lines(found)
        return Layout("csv", " ", tuple(first), found.num_lines - 1, header=True)
    whole = found.whole_or_colon
    if format is None and whole and (found.colon or is_adjacency(found)):
        return adjacency_layout(found)
    width = even_lines(found)
    if format == "triples" or width == 2 or (width <= 4 and (not whole or found.users_repeat)):
        if width > 4:
            raise ValueError(f"{path}:1: {width} fields; triples have at most four: user, item, rating, time")
        return Layout("triples", " ", UNNAMED[:width], found.num_lines)
    if whole and width > 4 and not found.users_repeat:
        return adjacency_layout(found)
    raise ValueError(
        f"{path}: could be `user item rating` triples or `user item item ...` adjacency lines; "
        "say format='triples' or format='adjacency' (--format)"
    )


def even_lines(found: Survey) -> int:
    """How many fields each line has.

    Raises: ValueError at the first line whose number of fields is not the commonest one.
    """
    usual = min(found.token_counts, key=lambda count: (-found.token_counts[count][0], count))
    odd = [(number, count) for count, (_, number) in found.token_counts.items() if count != usual]
    if odd:
        number, count = min(odd)
        raise ValueError(
            f"{found.path}:{number}: {count} fields where most lines have {usual} (separated by blanks); "
            "say format='adjacency' (--format adjacency) if each line is a user and their items"
        )
    return usual
