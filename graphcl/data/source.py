"""The bytes of a file, whole or in blocks: gunzipped where needed, and every failure said in one sentence."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

GZIP_MAGIC = b"\x1f\x8b"
BLOCK_SIZE = 1 << 20  # bytes of text at a time: what is made of a block takes some ten times as much
BINARY_WITHIN = 1 << 20  # bytes from the start in which a zero byte says that this is no text


def expanded(path: str | Path) -> Path:
    """With a leading ``~`` as the home; ``~name`` stays as it is where there is nobody of that name."""
    return Path(os.path.expanduser(path))


def read_bytes(path: Path) -> bytes:
    """The whole file, decompressed if it is gzip.

    Raises: what `byte_blocks` raises.
    """
    return b"".join(byte_blocks(path))


def byte_blocks(path: Path) -> Iterator[bytes]:
    """A file piece by piece, decompressed if it is gzip (told by its first bytes, not its name).

    Raises: FileNotFoundError if it is not there, ValueError if it is empty, unreadable, truncated or corrupt.
    """
    empty = True
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == GZIP_MAGIC
            if path.suffix == ".gz" and not zipped and file.tell():
                raise ValueError(f"{path}: its name ends in .gz but it is not a gzip file")
            file.seek(0)
            with gzip.open(file) if zipped else file as source:
                while block := source.read(BLOCK_SIZE):
                    empty = False
                    yield block
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except EOFError:
        raise ValueError(f"{path}: the gzip file is truncated; copy or download it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: the gzip file is corrupt ({error}); copy or download it again") from None
    except OSError as error:
        why = error.strerror or "it must be a file that can be read twice, not a pipe"
        raise ValueError(f"{path}: cannot be read ({why})") from None
    if empty:
        raise ValueError(f"{path}: the file is empty")


def read_text(path: Path) -> bytes:
    """UTF-8 text with ``\\n`` or ``\\r\\n`` line ends, a byte-order mark removed.

    Raises: what `text_blocks` raises, and ValueError for text that is blank.
    """
    data = b"".join(text_blocks(path))
    if not data.strip():
        raise ValueError(f"{path}: the file is empty")
    return data


def text_blocks(path: Path) -> Iterator[bytes]:
    """The lines of a UTF-8 text, kept as bytes for fast parsing. Each block ends where a line ends; a text with
    ``\\r`` alone for line ends comes in one.

    Raises: what `byte_blocks` raises, and ValueError for what is no text or not UTF-8.
    """
    seen = line = 0
    for block in whole_lines(byte_blocks(path)):
        if not seen and block.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise ValueError(f"{path}: the text is UTF-16; save it as UTF-8")
        if seen < BINARY_WITHIN and block.find(b"\0", 0, BINARY_WITHIN - seen) >= 0:
            raise ValueError(f"{path}: not a text file, and not Parquet or .npz either")
        text = block if seen else block.removeprefix(b"\xef\xbb\xbf")
        if not text.isascii():
            try:
                text.decode("utf-8")
            except UnicodeDecodeError as error:
                line += text.count(b"\n", 0, error.start) + 1
                raise ValueError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from None
        if not seen and b"\n" not in text:  # then there is no other block
            text = text.replace(b"\r", b"\n")
        line += text.count(b"\n")
        seen += len(block)
        yield text


def whole_lines(blocks: Iterator[bytes], *, quoted: bool = False) -> Iterator[bytes]:
    """The same bytes, cut behind line ends. `quoted`: only behind those outside double quotes; what lies between two
    quotes is held until the second comes."""
    held: list[bytes] = []
    inside = False  # a quote is open at the end of what is held
    for block in blocks:
        cut = block.rfind(b"\n") + 1
        if quoted and (inside or b'"' in block):
            text = np.frombuffer(block, dtype=np.uint8)
            quotes, ends = np.flatnonzero(text == ord('"')), np.flatnonzero(text == ord("\n"))
            outside = ends[np.searchsorted(quotes, ends) % 2 == inside]
            cut = int(outside[-1]) + 1 if len(outside) else 0
            inside ^= len(quotes) % 2 == 1
        if cut:
            yield b"".join([*held, block[:cut]])
            held = []
        if cut < len(block):
            held.append(block[cut:])
    if held:
        yield b"".join(held)


def unfinished(folder: Path) -> list[Path]:
    """What :func:`write_atomically` had begun there in a process that was killed."""
    return list(folder.glob(".*.part"))


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a neighbour of `path`, then rename it: a reader sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
