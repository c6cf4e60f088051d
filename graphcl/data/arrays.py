"""Arrays, sparse matrices and lists of pairs from files. Nothing is unpickled, and every failure names its file."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse

from graphcl.data.source import read_text

NPY_MAGIC, ZIP_MAGIC = b"\x93NUMPY", b"PK\x03\x04"


def read_pairs(path: Path) -> np.ndarray:  # [2, E] int64
    """Two ids a line, parted by blanks.

    Raises:
        ValueError: the first line that holds something else; a file without a line.
    """
    text = read_text(path)
    try:
        table = pd.read_csv(io.BytesIO(text), sep=r"\s+", header=None, dtype=np.int64, quoting=csv.QUOTE_NONE)
        if table.shape[1] == 2 and (table >= 0).all(axis=None):
            return np.ascontiguousarray(table.to_numpy().T)
    except (ValueError, OverflowError):
        pass
    for number, line in enumerate(text.split(b"\n"), 1):
        fields = line.split()
        if fields and not (len(fields) == 2 and all(f.isdigit() and len(f) < 19 for f in fields)):
            raise ValueError(f"{path}:{number}: two ids are expected, got {line.decode().strip()!r:.80}")
    raise AssertionError(f"{path}: each line holds two ids, but they could not be read")


def is_table(path: Path) -> bool:
    """Whether a file is a ``.npy``, whatever its name ends in."""
    with path.open("rb") as file:
        return file.read(len(NPY_MAGIC)) == NPY_MAGIC


def read_array(path: Path) -> np.ndarray:
    """A ``.npy`` file.

    Raises:
        ValueError: it holds Python objects, is damaged, or is something else.
    """
    if not is_table(path):
        raise ValueError(f"{path}: not a .npy file")
    try:
        found: np.ndarray = np.load(path, allow_pickle=False)
    except Exception as error:  # numpy raises several types for damaged files
        if "allow_pickle" in str(error):
            told = "holds Python objects (a pickle), which are never loaded; save it as a plain array"
            raise ValueError(f"{path}: {told}") from None
        raise ValueError(f"{path}: cannot be read ({error})") from None
    return found


def read_archive(path: Path) -> dict[str, np.ndarray]:
    """Every array of a ``.npz`` file.

    Raises:
        ValueError: as `read_array`.
    """
    with path.open("rb") as file:
        if file.read(len(ZIP_MAGIC)) != ZIP_MAGIC:
            raise ValueError(f"{path}: not a .npz file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile, zlib and numpy raise a dozen types for damaged or foreign archives
        if "allow_pickle" in str(error):
            told = "holds Python objects (a pickle), which are never loaded; save plain arrays"
            raise ValueError(f"{path}: {told}") from None
        raise ValueError(f"{path}: cannot be read ({error})") from None


def read_sparse(path: Path) -> sparse.csr_matrix:
    """A matrix saved by ``scipy.sparse.save_npz``.

    Raises:
        ValueError: it is damaged, or something else.
    """
    try:
        found = sparse.csr_matrix(sparse.load_npz(path))
        found.check_format(full_check=True)
    except Exception as error:  # zipfile, numpy and scipy raise a dozen types for damaged or foreign archives
        raise ValueError(f"{path}: not a sparse matrix saved by scipy.sparse.save_npz ({error})") from None
    return found
