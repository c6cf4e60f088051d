"""What a text shows when read once from end to end, in blocks: counts of lines and fields, first lines, first odd ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from graphcl.data.encode import IdRows
from graphcl.data.source import text_blocks, whole_lines

DELIMITERS = (b"\t", b",", b";", b"|")
FIELD_BEGINS = np.frombuffer(b'\n\t,;|"', dtype=np.uint8)  # behind one of these; behind a quote, it is one within a field
BLANKS_BEFORE_QUOTE = re.compile(rb'[\t,;|] +"')
QUOTED_OR_BLANKS = re.compile(rb'"(?:[^"]|"")*"|([\t,;|]) +(?=")')  # what is quoted stays as it is
DIGITS_AND_BLANKS = b"0123456789 \t\n\r\f\v"


def blocks_of_lines(path: Path, *, quoted: bool = False) -> Iterator[bytes]:
    """The text in blocks of whole lines, or of whole records where double quotes are heeded. MovieLens' delimiter `::`
    reads as a tab, and blanks between a delimiter and a quote that is heeded are no part of a field."""
    coloned = None
    for block in text_blocks(path) if not quoted else whole_lines(text_blocks(path), quoted=True):
        if quoted and BLANKS_BEFORE_QUOTE.search(block):
            block = QUOTED_OR_BLANKS.sub(lambda found: found[1] or found[0], block)
        if coloned is None:
            coloned = b"::" in block[: block.find(b"\n")]
        yield block.replace(b"::", b"\t") if coloned else block


class Lines:
    """The lines of a block that are not blank, and how often a byte stands in each.

    A line end within double quotes, where these are heeded, is part of a field. `before`: line ends in earlier blocks.
    """

    def __init__(self, data: bytes, quoted: bool, before: int = 0) -> None:
        self.text = np.frombuffer(data, dtype=np.uint8)
        self.quotes = np.flatnonzero(self.text == ord('"')) if quoted and b'"' in data else np.empty(0, dtype=np.int64)
        newlines = np.flatnonzero(self.text == ord("\n"))
        self.after = before + len(newlines)
        ends = self.outside(newlines)
        if not len(ends) or ends[-1] != len(data) - 1:
            ends = np.append(ends, len(data))
        starts = np.concatenate([[0], ends[:-1] + 1])
        printed = np.maximum.reduceat(self.text, starts) > ord(" ")
        self.starts, self.ends = starts[printed], ends[printed]
        self.numbers = np.flatnonzero(printed) + (before + 1)
        if len(self.quotes):  # numbers as an editor shows them: count line ends in quotes too
            self.numbers = np.searchsorted(newlines, self.starts) + (before + 1)

    @property
    def loose(self) -> bool:
        """Whether a quote that is heeded opens elsewhere than where a field begins."""
        opening = self.quotes[::2]
        return not np.isin(self.text[opening[opening > 0] - 1], FIELD_BEGINS).all()

    def outside(self, positions: np.ndarray) -> np.ndarray:
        """Those that are not within quotes."""
        return positions[np.searchsorted(self.quotes, positions) % 2 == 0] if len(self.quotes) else positions

    def count(self, byte: bytes) -> np.ndarray:
        """How often a byte stands in each line, [lines]."""
        found = self.outside(np.flatnonzero(self.text == ord(byte)))
        each, rest = divmod(len(found), max(len(self), 1))
        if rest == 0:  # the usual case, equally many in every line, is told without searching
            grid = found.reshape(-1, each) if each else None
            if grid is None or (np.all(grid[:, 0] >= self.starts) and np.all(grid[:, -1] < self.ends)):
                return np.full(len(self), each)
        return np.searchsorted(found, self.ends) - np.searchsorted(found, self.starts)

    def __getitem__(self, line: int) -> str:
        return self.text[self.starts[line] : self.ends[line]].tobytes().decode("utf-8").strip("\r\n")

    def __len__(self) -> int:
        return len(self.starts)


def tokens(blank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends of the runs between blanks."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], blank, [True]]).astype(np.int8)))
    return edges[::2], edges[1::2]


@dataclass
class Survey:
    """Of lines that are not blank. Counts of tokens (fields parted by runs of blanks) and what rests on them are kept only
    where they may decide: no other delimiter in the first line, or tabs between whole numbers."""

    path: str
    quoted: bool
    num_lines: int = 0
    head: list[str] = field(default_factory=list)  # the first two lines
    number: int = 0  # of the first line
    quotes: int = 0
    loose: bool = False  # a quote that is heeded opens elsewhere than where a field begins: an inch mark, say
    per_line: dict[bytes, int] = field(default_factory=dict)  # delimiter -> how often the first line has it
    odd: dict[bytes, tuple[int, int]] = field(default_factory=dict)  # delimiter -> first line with another count; its count
    whole: bool = True  # nothing but digits and blanks
    whole_or_colon: bool = True
    colon: bool = False
    num_tokens: int = 0
    token_counts: dict[int, list[int]] = field(default_factory=dict)  # tokens of a line -> lines like it, number of the first
    users_repeat: bool = False  # two lines start with the same token

    @property
    def counts_tokens(self) -> bool:
        if any(self.per_line[d] for d in DELIMITERS[1:]):
            return False
        return not self.per_line[b"\t"] or (self.whole and not self.users_repeat)


def survey(path: Path, *, quoted: bool = False, tokens_too: bool = False) -> Survey:
    """Raises: what `text_blocks` raises, and ValueError for a blank text."""
    found, before, leads = Survey(str(path), quoted), 0, IdRows()
    for block in blocks_of_lines(path, quoted=quoted):
        lines = Lines(block, quoted, before)
        before = lines.after
        found.quotes += block.count(b'"')
        found.loose = found.loose or lines.loose
        if not len(lines):
            continue
        found.head += [lines[n] for n in range(min(2 - len(found.head), len(lines)))]
        of_delimiter = {d: lines.count(d) for d in (found.per_line if found.num_lines else DELIMITERS)}
        if not found.num_lines:
            found.number = int(lines.numbers[0])
            found.per_line = {d: int(counts[0]) for d, counts in of_delimiter.items()}
        for delimiter, counts in of_delimiter.items():
            differ = counts != found.per_line[delimiter]
            if delimiter not in found.odd and differ.any():
                line = int(differ.argmax())
                found.odd[delimiter] = (int(lines.numbers[line]), int(counts[line]))
        found.num_lines += len(lines)
        found.colon = found.colon or b":" in block
        if found.whole_or_colon:
            others = block.translate(None, DIGITS_AND_BLANKS)
            found.whole = found.whole and not others
            found.whole_or_colon = not others.strip(b":")
        if tokens_too or (not quoted and found.counts_tokens):
            count_tokens(found, lines, leads)
    if not found.num_lines:
        raise ValueError(f"{path}: the file is empty")
    return found


def count_tokens(found: Survey, lines: Lines, leads: IdRows) -> None:
    starts, ends = tokens(lines.text <= ord(" "))
    first = np.searchsorted(starts, lines.starts)
    counts = np.diff(np.append(first, len(starts)))
    found.num_tokens += len(starts)
    frequencies = np.bincount(counts)
    for count in np.flatnonzero(frequencies).tolist():
        if count not in found.token_counts:
            found.token_counts[count] = [0, int(lines.numbers[(counts == count).argmax()])]
        found.token_counts[count][0] += int(frequencies[count])
    if found.whole and not found.users_repeat:
        leads.of_texts(lines.text, starts[first], ends[first])
        found.users_repeat = len(leads) < found.num_lines
