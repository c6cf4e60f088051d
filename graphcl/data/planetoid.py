"""Planetoid's raw files, ``ind.NAME.x`` and its kin: Python 2 pickles, read without unpickling anything but numbers.

The only module that imports ``pickle``. A pickle may name any function of the machine and call it; here the names that these
files need stand for arrays, numbers, CSR matrices, lists and dicts, and every other name is refused.
"""

from __future__ import annotations

import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

PARTS = ("x", "tx", "allx", "y", "ty", "ally", "graph")
NUM_VALID = 500  # labelled nodes after the training nodes, in the public split


class Planetoid(NamedTuple):
    """Nodes in the order that the public split speaks of."""

    x: sparse.csr_matrix  # [N, F] float32
    edges: np.ndarray  # [E, 2] int64, as listed: both directions, self-loops
    labels: np.ndarray  # [N] int64, -1 where the one-hot row is empty or missing
    split: tuple[np.ndarray, np.ndarray, np.ndarray]  # train, valid and test ids


def name_in(folder: Path) -> str | None:
    """NAME of the ``ind.NAME.graph`` in a folder; None where there is none.

    Raises:
        ValueError: there are several.
    """
    names = sorted(path.name[4:-6] for path in folder.glob("ind.*.graph"))
    if len(names) > 1:
        raise ValueError(f"{folder}: holds {', '.join(names)}; keep the files of one data set in a folder")
    return names[0] if names else None


def read_planetoid(folder: Path, name: str) -> Planetoid:
    """Test rows go where ``test.index`` says; ids that it leaves out (15 of Citeseer's) are nodes without features and label.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file holds something else, or names anything but numbers; it is named.
    """
    files = {part: folder / f"ind.{name}.{part}" for part in (*PARTS, "test.index")}
    for path in files.values():
        if not path.is_file():
            raise FileNotFoundError(f"{path}: missing; Planetoid's files are {', '.join(p.name for p in files.values())}")
    found = {part: _unpickled(files[part]) for part in PARTS}
    tx, allx = (_matrix(found[part], files[part]) for part in ("tx", "allx"))
    y, ty, ally = (_one_hot(found[part], files[part]) for part in ("y", "ty", "ally"))
    try:
        test = np.array([int(line) for line in files["test.index"].read_text().split()], dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{files['test.index']}: one id a line is expected ({error})") from None
    for part, rows, wanted in (("tx", tx, len(test)), ("ty", ty, len(test)), ("ally", ally, allx.shape[0])):
        if rows.shape[0] != wanted:
            raise ValueError(f"{files[part]}: {rows.shape[0]} rows, but {wanted} are expected")
    if tx.shape[1] != allx.shape[1] or not ally.shape[1] == ty.shape[1] == y.shape[1]:
        raise ValueError(f"{files['tx']}: the parts differ in their numbers of features or of classes")
    known = allx.shape[0]
    if len(test) and (test.min() < known or len(np.unique(test)) < len(test)):
        raise ValueError(f"{files['test.index']}: ids must differ and follow the {known} rows of allx")
    if len(y) > known:
        raise ValueError(f"{files['y']}: {len(y)} rows, but allx has {known}")
    num_nodes = max(known, int(test.max(initial=-1)) + 1)
    place = np.concatenate([np.arange(known), test])
    rows = sparse.vstack([allx, tx]).tocoo()
    x = sparse.csr_matrix((rows.data.astype(np.float32), (place[rows.row], rows.col)), shape=(num_nodes, allx.shape[1]))
    hot = np.concatenate([ally, ty])
    labels = np.full(num_nodes, -1, dtype=np.int64)
    labels[place] = np.where(hot.any(axis=1), hot.argmax(axis=1), -1)
    train, valid = np.arange(len(y)), np.arange(len(y), min(len(y) + NUM_VALID, known))
    return Planetoid(x, _edges(found["graph"], files["graph"], num_nodes), labels, (train, valid, np.sort(test)))


class _Csr:
    """What a pickled CSR matrix is made into: its fields, and none of its methods."""


def _blank(kind: Any, parent: Any, state: Any) -> _Csr:
    """``copy_reg._reconstructor``, of a CSR matrix alone."""
    if kind is not _Csr or parent is not object or state is not None:
        raise pickle.UnpicklingError("only a CSR matrix may be made so")
    return _Csr()


_ARRAY, _NUMBER = np.empty(0).__reduce__()[0], np.int64(0).__reduce__()[0]  # type: ignore[index]
ADMITTED: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _ARRAY for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _NUMBER for core in ("core", "_core")},
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{(f"scipy.sparse.{module}", "csr_matrix"): _Csr for module in ("csr", "_csr")},
    ("copy_reg", "_reconstructor"): _blank,
    ("collections", "defaultdict"): defaultdict,
    **{(builtins, name): kind for builtins in ("__builtin__", "builtins") for name, kind in (("list", list), ("dict", dict))},
    ("__builtin__", "object"): object,
}


class _Numbers(pickle.Unpickler):
    """Admits what the files need; the names of Python 2 stay as they are."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not admitted")
        return ADMITTED[module, name]


def _unpickled(path: Path) -> Any:
    with path.open("rb") as file:
        try:
            return _Numbers(file, encoding="latin1", fix_imports=False).load()
        except Exception as error:  # a damaged pickle raises a dozen types
            raise ValueError(f"{path}: not one of Planetoid's pickles ({error or type(error).__name__})") from None


def _matrix(value: Any, path: Path) -> sparse.csr_matrix:
    try:
        fields = vars(value)
        found = sparse.csr_matrix(tuple(fields[key] for key in ("data", "indices", "indptr")), shape=fields["_shape"])
        found.check_format(full_check=True)
        found = found.astype(np.float32, casting="same_kind")
    except Exception as error:  # whatever a foreign object breaks at
        raise ValueError(
            f"{path}: a CSR matrix of numbers is expected, got {type(value).__name__.strip('_')} ({error})"
        ) from None
    return found


def _one_hot(value: Any, path: Path) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.ndim != 2 or value.dtype.kind not in "iufb":
        raise ValueError(f"{path}: a table of one-hot labels is expected, got {type(value).__name__}")
    return value


def _edges(value: Any, path: Path, num_nodes: int) -> np.ndarray:
    try:
        pairs = [(int(node), int(other)) for node, others in value.items() for other in others]
    except Exception as error:  # as above
        raise ValueError(f"{path}: a dict of lists of ids is expected ({error})") from None
    edges = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    if len(edges) and not 0 <= edges.min() <= edges.max() < num_nodes:
        raise ValueError(f"{path}: ids must lie in 0..{num_nodes - 1}, got {edges.min()}..{edges.max()}")
    return edges
