"""The bytes of a file: gunzipped where needed, and every failure said in one sentence."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable
from pathlib import Path

GZIP_MAGIC = b"\x1f\x8b"


def read_bytes(path: Path) -> bytes:
    """The whole file, decompressed if it is gzip (told by its first bytes, not its name).

    Raises: FileNotFoundError if it is not there, ValueError if it is empty, unreadable, truncated or corrupt.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
    if raw.startswith(GZIP_MAGIC):
        try:
            raw = gzip.decompress(raw)
        except EOFError:
            raise ValueError(f"{path}: the gzip file is truncated; copy or download it again") from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}: the gzip file is corrupt ({error}); copy or download it again") from None
    elif path.suffix == ".gz" and raw:
        raise ValueError(f"{path}: its name ends in .gz but it is not a gzip file")
    if not raw:
        raise ValueError(f"{path}: the file is empty")
    return raw


def read_text(path: Path) -> bytes:
    """UTF-8 text with ``\\n`` or ``\\r\\n`` line ends, a byte-order mark removed, kept as bytes for fast parsing.

    Raises: what `read_bytes` raises, and ValueError for text that is blank or not UTF-8.
    """
    data = read_bytes(path)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{path}: the text is UTF-16; save it as UTF-8")
    if data.find(b"\0", 0, 1 << 20) >= 0:
        raise ValueError(f"{path}: not a text file, and not Parquet or .npz either")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data.isascii():
        try:
            data.decode("utf-8")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise ValueError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from None
    if b"\r" in data and b"\n" not in data:
        data = data.replace(b"\r", b"\n")
    if not data.strip():
        raise ValueError(f"{path}: the file is empty")
    return data


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a neighbour of `path`, then rename it: a reader sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
