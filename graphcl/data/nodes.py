"""Labelled heterogeneous graphs, and the folder format of the HeCo and MEOW releases."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphcl.data.source import byte_blocks
from graphcl.hetero import Features, HeteroGraph

UNKNOWN = -1  # label of a node that has none


class LabelSplit(NamedTuple):
    """Target nodes of one label rate; training ids may repeat."""

    train: Tensor  # [n] int64
    valid: Tensor
    test: Tensor


@dataclass(frozen=True, eq=False)
class NodeData:
    """A graph with labels of its target nodes, to pretrain on the one and probe with the other.

    Raises:
        ValueError: labels of another number than targets; a split that overlaps, leaves the targets or names a node without a label.
    """

    name: str
    graph: HeteroGraph
    metapaths: tuple[str, ...]
    labels: Tensor  # [N] int64, 0 .. C - 1; UNKNOWN where there is none
    splits: Mapping[int, LabelSplit]  # by label rate: labelled nodes per class
    classes: tuple[int, ...] = ()  # the label in the file of each class
    positives: sparse.csr_matrix | None = None  # [N, N] rows are anchors; HeCo's own choice, where shipped
    citation: str = ""
    ids: np.ndarray | None = field(default=None, repr=False)  # [N] the caller's id of each target

    def __post_init__(self) -> None:
        count = self.graph.num_targets
        if len(self.labels) != count:
            raise ValueError(f"{self.name}: {len(self.labels)} labels for {count} nodes of type {self.graph.target}")
        for rate, split in self.splits.items():
            for part, ids in split._asdict().items():
                if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < count:
                    raise ValueError(f"{self.name}: {part}_{rate} names node {int(ids.max())}, but there are {count}")
                if bool((self.labels[ids] == UNKNOWN).any()):
                    first = int(ids[self.labels[ids] == UNKNOWN][0])
                    raise ValueError(f"{self.name}: {part}_{rate} names node {first}, which has no label")
            for one, other in (("train", "valid"), ("train", "test"), ("valid", "test")):
                shared = np.intersect1d(getattr(split, one).numpy(), getattr(split, other).numpy())
                if len(shared):
                    raise ValueError(
                        f"{self.name}: {len(shared)} nodes, {shared[0]} first, are in both {one}_{rate} and {other}_{rate}"
                    )

    @property
    def num_classes(self) -> int:
        return int(self.labels.max()) + 1

    def reordered(self, order: np.ndarray) -> NodeData:
        """The same data with target ``order[i]`` as number i."""
        place = torch.empty(len(order), dtype=torch.int64)
        place[torch.from_numpy(order)] = torch.arange(len(order))
        return replace(
            self,
            graph=self.graph.reordered(order),
            labels=self.labels[torch.from_numpy(order)],
            splits={rate: LabelSplit(*(place[ids] for ids in split)) for rate, split in self.splits.items()},
            positives=None if self.positives is None else self.positives[order][:, order],
            ids=(np.arange(len(order)) if self.ids is None else self.ids)[order],
        )


def read_nodes(folder: str | Path, name: str | None = None) -> NodeData:
    """A folder in the format of the HeCo and MEOW releases: flat, or its ``meow/`` part overlaid by its ``heco/`` part.

    ``pa.txt``: a relation, one pair of ids a line, named by its two types' letters. ``p_feat.npz``: features, sparse or (whatever the
    ending) a ``.npy`` table. ``labels.npy`` and ``train_20.npy``, ``val_20.npy``, ``test_20.npy``, ...: of the target type, which is the
    one that the meta-path files begin with (``pap.npz``, ``nei_a.npz``); these say which meta-paths there are and are not read, as all
    follow from the relations. ``pos.npz``: HeCo's positive pairs. A type without features has as many nodes as its largest id says.
    Labels may start anywhere and may be floats that are whole; NaN and negative ones stand for none.

    Raises:
        FileNotFoundError: no such folder, or no labels.
        ValueError: what stands in a file is wrong; it is named.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    files: dict[str, Path] = {}
    for part in (root, root / "meow", root / "heco"):
        if part.is_dir():
            files |= {path.name: path for path in sorted(part.iterdir()) if path.is_file()}
    name = name or root.resolve().name
    if "labels.npy" not in files:
        raise FileNotFoundError(f"{root}: there is no labels.npy, here or in meow/ or heco/")
    metapaths = _metapaths(files, root)
    target = metapaths[0][0]
    edges = {(n[0].upper(), n[1].upper()): _pairs(path) for n, path in files.items() if re.fullmatch(r"[a-z]{2}\.txt", n)}
    if not edges:
        raise ValueError(f"{root}: there is no relation; files such as pa.txt are expected")
    types = list(dict.fromkeys([target, *(t for ends in edges for t in ends)]))
    x = {t: _features(files[f"{t.lower()}_feat.npz"]) for t in types if f"{t.lower()}_feat.npz" in files}
    raw = _array(files["labels.npy"])
    counts = {}
    for t in types:
        largest = max(
            (int(ends[side].max()) for pair, ends in edges.items() for side in (0, 1) if pair[side] == t and ends.size),
            default=-1,
        )
        counts[t] = x[t].shape[0] if t in x else len(raw) if t == target else largest + 1
        if largest >= counts[t]:
            wrong = next(
                f"{a}{b}.txt".lower()
                for (a, b), ends in edges.items()
                for s in (0, 1)
                if (a, b)[s] == t and ends[s].max() == largest
            )
            raise ValueError(f"{files[wrong]}: there is no {t} {largest}; by its features or labels there are {counts[t]}")
    labels, classes = _labels(raw, files["labels.npy"])
    graph = HeteroGraph.from_edges(counts, edges, target, x)
    positives = _sparse(files["pos.npz"]) if "pos.npz" in files else None
    if positives is not None and positives.shape != (counts[target], counts[target]):
        raise ValueError(f"{files['pos.npz']}: of shape {positives.shape}, but there are {counts[target]} {target}")
    return NodeData(name, graph, metapaths, labels, _splits(files), classes, positives)


def _metapaths(files: Mapping[str, Path], root: Path) -> tuple[str, ...]:
    """Meta-paths by the files' names: apa.npz is one, nei_apc.npz of target A says APCPA, and so does nei_pc.npz."""
    whole = {stem for stem in (n.split(".")[0] for n in files) if re.fullmatch(r"[a-z]{3,}", stem) and stem == stem[::-1]}
    initials = {stem[0] for stem in whole}
    if len(initials) != 1:
        told = (
            f"meta-paths start at {' and '.join(sorted(initials))}" if initials else "there is no meta-path file such as pap.npz"
        )
        raise ValueError(f"{root}: the target type can't be told, for {told}")
    target = initials.pop()
    for n in files:
        found = re.fullmatch(r"nei_([a-z]+)\..*", n)
        if found:
            half = found[1] if found[1].startswith(target) else target + found[1]
            if half != half[::-1] or len(half) < 3:  # the neighbours along a whole meta-path are no new one
                path = half + half[-2::-1]
                if not any(other != path and other.startswith(half) for other in whole):
                    whole.add(path)
    return tuple(path.upper() for path in sorted(whole, key=lambda p: (len(p), p)))


def _pairs(path: Path) -> np.ndarray:  # [2, E]
    text = b"".join(byte_blocks(path))
    rows = []
    for number, line in enumerate(text.split(b"\n"), 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 2 or not all(f.isdigit() for f in fields):
            raise ValueError(f"{path}:{number}: two ids are expected, got {line.decode(errors='replace').strip()!r}")
        rows.append((int(fields[0]), int(fields[1])))
    return np.array(rows, dtype=np.int64).reshape(-1, 2).T


def _array(path: Path) -> np.ndarray:
    try:
        found = np.load(path, allow_pickle=False)
    except ValueError as error:
        if "allow_pickle" in str(error) or "Object arrays" in str(error):
            raise ValueError(
                f"{path}: holds Python objects (a pickle), which are never loaded; save it as a plain array"
            ) from None
        raise ValueError(f"{path}: cannot be read ({error})") from None
    except (OSError, EOFError) as error:
        raise ValueError(f"{path}: cannot be read ({error})") from None
    if not isinstance(found, np.ndarray):
        raise ValueError(f"{path}: one array is expected, it holds {', '.join(found.files)}")
    return found


def _sparse(path: Path) -> sparse.csr_matrix:
    try:
        return sparse.csr_matrix(sparse.load_npz(path))
    except (ValueError, OSError, EOFError, KeyError) as error:
        raise ValueError(f"{path}: not a SciPy sparse matrix ({error})") from None


def _features(path: Path) -> Features:
    with path.open("rb") as file:
        dense = file.read(6) == b"\x93NUMPY"
    if dense:
        table = _array(path)
        if table.ndim != 2 or table.dtype.kind not in "fiub":
            raise ValueError(f"{path}: a table of numbers is expected, got {table.dtype} of shape {table.shape}")
        found: Features = torch.from_numpy(table.astype(np.float32))
        values = table
    else:
        found = _sparse(path).astype(np.float32)
        values = found.data
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: a feature is not finite")
    return found


def _labels(raw: np.ndarray, path: Path) -> tuple[Tensor, tuple[int, ...]]:
    if raw.ndim != 1 or raw.dtype.kind not in "fiu":
        raise ValueError(f"{path}: one whole number a node is expected, got {raw.dtype} of shape {raw.shape}")
    known = ~np.isnan(raw) & (raw >= 0) if raw.dtype.kind == "f" else raw >= 0
    if (raw[known] != np.floor(raw[known])).any():
        raise ValueError(f"{path}: label {raw[known][raw[known] != np.floor(raw[known])][0]} is not a whole number")
    classes, numbers = np.unique(raw[known].astype(np.int64), return_inverse=True)
    labels = np.full(len(raw), UNKNOWN, dtype=np.int64)
    labels[known] = numbers
    return torch.from_numpy(labels), tuple(classes.tolist())


def _splits(files: Mapping[str, Path]) -> dict[int, LabelSplit]:
    found = {}
    for rate in sorted(int(m[1]) for m in (re.fullmatch(r"train_(\d+)\.npy", n) for n in files) if m):
        parts = []
        for part in ("train", "val", "test"):
            path = files.get(f"{part}_{rate}.npy")
            if path is None:
                raise FileNotFoundError(
                    f"{files[f'train_{rate}.npy'].parent}: train_{rate}.npy has no {part}_{rate}.npy beside it"
                )
            ids = _array(path)
            if ids.ndim != 1 or ids.dtype.kind not in "iu":
                raise ValueError(f"{path}: a list of ids is expected, got {ids.dtype} of shape {ids.shape}")
            parts.append(torch.from_numpy(ids.astype(np.int64)))
        found[rate] = LabelSplit(*parts)
    return found
