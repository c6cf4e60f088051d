"""Labelled heterogeneous graphs, and the folder format of the HeCo and MEOW releases."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphcl.data import registry
from graphcl.data.arrays import is_table, read_array, read_pairs, read_sparse
from graphcl.data.config import NODE_FOLDERS
from graphcl.data.source import expanded
from graphcl.hetero import Features, HeteroGraph
from graphcl.interactions import whole

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
        ValueError: labels or ids of another number than targets; a meta-path that does not compose, or does not lead from targets to
            targets; a split that overlaps, names a node that does not exist, or one without a label.
    """

    name: str
    graph: HeteroGraph
    metapaths: tuple[str, ...]
    labels: Tensor  # [N] int64, 0 .. C - 1; UNKNOWN where there is none
    splits: Mapping[int, LabelSplit]  # by label rate: labelled nodes per class
    classes: tuple[int, ...] = ()  # the label in the file of each class
    positives: sparse.csr_matrix | None = None  # [N, N] rows are anchors; HeCo's own choice, where shipped
    citation: str = ""
    ids: np.ndarray | None = field(default=None, repr=False)  # [N] the caller's id of each target, whole numbers or text

    def __post_init__(self) -> None:
        count = self.graph.num_targets
        if len(self.labels) != count:
            raise ValueError(f"{self.name}: {len(self.labels)} labels for {count} nodes of type {self.graph.target}")
        for metapath in self.metapaths:
            types = self.graph.types(metapath)
            if not types[0] == types[-1] == self.graph.target:
                raise ValueError(
                    f"{self.name}: meta-path {metapath!r} must lead from the target type, {self.graph.target}, to itself"
                )
        check_splits(self.name, self.splits, self.labels, self.ids)

    @property
    def num_classes(self) -> int:
        return int(self.labels.max()) + 1

    @classmethod
    def from_graph(
        cls,
        graph: HeteroGraph,
        metapaths: Sequence[str],
        labels: Any = None,  # [N] whole numbers, negative or NaN where there is none; None: no node has one
        splits: Mapping[int, tuple[Any, Any, Any]] | None = None,  # by label rate: train, valid, test; node numbers, or masks [N]
        name: str = "graph",
    ) -> NodeData:
        """From a graph of one's own and the meta-paths to learn along ("PAP", "paper-author-paper").

        Raises:
            ValueError: as the class; no meta-path, or one string instead of a list of them.
        """
        if isinstance(metapaths, str) or not metapaths:
            raise ValueError(f"{name}: a list of meta-paths is needed, such as ['PAP'], got {metapaths!r}")
        found, classes = _unknown(graph.num_targets) if labels is None else numbered(np.asarray(labels), f"{name}: labels")
        made = {
            rate: LabelSplit(*(_rows(part, graph.num_targets, f"{name}: split {rate}") for part in split))
            for rate, split in (splits or {}).items()
        }
        return cls(name, graph, tuple(metapaths), found, made, classes)

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


def _rows(part: Any, count: int, name: str) -> Tensor:  # [n] int64
    """Of a mask [N] of bools, or of whole numbers in any list."""
    part = torch.as_tensor(part)
    if part.ndim != 1 or (part.is_floating_point() and len(part)) or (part.dtype == torch.bool and len(part) != count):
        raise ValueError(
            f"{name}: a part is node numbers, or a mask of {count} nodes, got {part.dtype} of shape {tuple(part.shape)}"
        )
    return part.nonzero()[:, 0] if part.dtype == torch.bool else part.long()


def check_splits(
    name: str,
    splits: Mapping[int, LabelSplit],
    labels: Tensor,  # [N] int64
    names: Any,  # [N] ids of the nodes, or None
) -> None:
    """Raises: ValueError for label rates that are not whole, parts that overlap, or name a node that does not exist or has no label, and
    ids of another number of nodes."""
    if names is not None and len(names) != len(labels):
        raise ValueError(f"{name}: {len(names)} ids for {len(labels)} nodes")
    for rate, split in splits.items():
        whole(rate, f"{name}: a label rate, labelled nodes a class,")
        for part, ids in split._asdict().items():
            if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < len(labels):
                wrong = int(ids.min() if ids.min() < 0 else ids.max())
                raise ValueError(f"{name}: {part}_{rate} names node {wrong}, but there are {len(labels)}")
            if bool((labels[ids] == UNKNOWN).any()):
                first = int(ids[labels[ids] == UNKNOWN][0])
                raise ValueError(f"{name}: {part}_{rate} names node {first}, which has no label")
        for one, other in (("train", "valid"), ("train", "test"), ("valid", "test")):
            shared = np.intersect1d(getattr(split, one).numpy(), getattr(split, other).numpy())
            if len(shared):
                raise ValueError(f"{name}: {len(shared)} nodes, {shared[0]} first, are in both {one}_{rate} and {other}_{rate}")


def read_nodes(folder: str | Path, name: str | None = None) -> NodeData:
    """A folder in the format of the HeCo and MEOW releases: flat, or its ``meow/`` part overlaid by its ``heco/`` part.

    ``pa.txt``: a relation, one pair of ids a line, named by its two types' letters. ``p_feat.npz``: features, sparse or (whatever the
    ending) a ``.npy`` table. ``labels.npy`` and ``train_20.npy``, ``val_20.npy``, ``test_20.npy``, ...: of the target type, which is the
    one that the meta-path files begin with (``pap.npz``, ``nei_a.npz``); these say which meta-paths there are and are not read, as all
    follow from the relations. ``pos.npz``: HeCo's positive pairs. A type without features has as many nodes as its largest id says.
    Labels may start anywhere and may be floats that are whole; NaN and negative ones stand for none, and without the file no node has one.

    Raises:
        FileNotFoundError: no such folder, a split without labels, or one without one of its parts.
        NotADirectoryError: a file.
        ValueError: what stands in a file is wrong; it is named.
    """
    root = expanded(folder)
    if root.is_file():
        raise NotADirectoryError(f"{root}: is a file; a heterogeneous graph is a folder, with files such as pa.txt and pap.npz")
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    files: dict[str, Path] = {}
    for part in (root, *(root / name for name in NODE_FOLDERS)):
        if part.is_dir():
            files |= {path.name: path for path in sorted(part.iterdir()) if path.is_file()}
    parts = [n for n in files if re.fullmatch(r"(train|val|test)_\d+\.npy", n)]
    if parts and "labels.npy" not in files:
        raise FileNotFoundError(f"{root}: there is no labels.npy, here or in meow/ or heco/, but {parts[0]} names labelled nodes")
    return _read(files, name or root.resolve().name, _metapaths(files, root))


def load_nodes(source: str | Path) -> NodeData:
    """A registered data set by name, looked for in the group hetero first, or a folder that `read_nodes` reads.

    Raises:
        FileNotFoundError: what to put where.
        ValueError: as `read_nodes`; an unknown name, one that is a log of interactions, or files of other counts than registered.
    """
    config = registry.configured(source, group="hetero")
    if config is None:
        return read_nodes(source)
    if config.kind != "hetero":
        raise ValueError(f"{config.full_name} is {config.what}, but a graph of labelled nodes of several types is needed here")
    files = registry.locate(config)
    registry.check_sums(config, files)
    data = _read({config.files[role][0].name: path for role, path in files.items()}, config.name, config.metapaths)
    found = {name.lower(): count for name, count in data.graph.counts.items()}
    found |= {f"{a}{b}".lower(): pattern.nnz for (a, b), pattern in data.graph.relations.items()}
    registry.check_counts(config, {**found, "classes": data.num_classes}, list(config.counts))
    return replace(data, citation=config.citation)


def _read(files: Mapping[str, Path], name: str, metapaths: tuple[str, ...]) -> NodeData:
    """From files by their names in the format."""
    target = metapaths[0][0]
    named = {(n[0].upper(), n[1].upper()): path for n, path in files.items() if re.fullmatch(r"[a-z]{2}\.txt", n)}
    if not named:
        raise ValueError(f"{next(iter(files.values())).parent}: there is no relation; files such as pa.txt are expected")
    edges = {ends: read_pairs(path) for ends, path in named.items()}
    types = list(dict.fromkeys([target, *(t for ends in edges for t in ends)]))
    x = {t: _features(files[f"{t.lower()}_feat.npz"]) for t in types if f"{t.lower()}_feat.npz" in files}
    given = numbered(read_array(files["labels.npy"]), files["labels.npy"]) if "labels.npy" in files else None
    counts = {t: x[t].shape[0] if t in x else len(given[0]) if given and t == target else 0 for t in types}
    for pair, ids in edges.items():
        for t, largest in zip(pair, ids.max(axis=1).tolist(), strict=True):
            if t not in x and not (given and t == target):
                counts[t] = max(counts[t], largest + 1)
            elif largest >= counts[t]:
                told = f"there is no {t} {largest}; by the {'features' if t in x else 'labels'} there are {counts[t]}"
                raise ValueError(f"{named[pair]}: {told}")
    graph = HeteroGraph.from_edges(counts, edges, target, x)
    positives = read_sparse(files["pos.npz"]) if "pos.npz" in files else None
    if positives is not None and positives.shape != (counts[target], counts[target]):
        raise ValueError(f"{files['pos.npz']}: of shape {positives.shape}, but there are {counts[target]} {target}")
    labels, classes = given or _unknown(counts[target])
    return NodeData(name, graph, metapaths, labels, _splits(files), classes, positives)


def _metapaths(files: Mapping[str, Path], root: Path) -> tuple[str, ...]:
    """Meta-paths by the files' names: apa.npz is one, nei_apc.npz of target A says APCPA, and so does nei_pc.npz."""
    stems = {n.removesuffix(".npz") for n in files if re.fullmatch(r"[a-z]{3,}\.npz", n)}
    whole = {stem for stem in stems if stem == stem[::-1]}
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


def _features(path: Path) -> Features:
    if is_table(path):
        table = read_array(path)
        if table.ndim != 2 or table.dtype.kind not in "fiub":
            raise ValueError(f"{path}: a table of numbers is expected, got {table.dtype} of shape {table.shape}")
        found: Features = torch.from_numpy(table.astype(np.float32))
        values = table
    else:
        found = read_sparse(path).astype(np.float32)
        values = found.data
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: a feature is not finite")
    return found


def numbered(raw: np.ndarray, path: Path | str) -> tuple[Tensor, tuple[int, ...]]:
    """Labels from 0, UNKNOWN where they are negative or NaN, and the label in ``raw`` of each class.

    Raises: ValueError naming ``path`` for what is not one whole number a node.
    """
    if raw.ndim != 1 or raw.dtype.kind not in "fiu":
        raise ValueError(f"{path}: one whole number a node is expected, got {raw.dtype} of shape {raw.shape}")
    known = raw >= 0  # not so for NaN
    broken = known & ((raw != np.floor(raw)) | np.isinf(raw))
    if broken.any():
        raise ValueError(f"{path}: label {raw[broken][0]} is not a whole number")
    classes, numbers = np.unique(raw[known].astype(np.int64), return_inverse=True)
    labels = np.full(len(raw), UNKNOWN, dtype=np.int64)
    labels[known] = numbers
    return torch.from_numpy(labels), tuple(classes.tolist())


def _unknown(count: int) -> tuple[Tensor, tuple[int, ...]]:
    """What `numbered` gives where no node has a label."""
    return torch.full((count,), UNKNOWN), ()


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
            ids = read_array(path)
            if ids.ndim != 1 or ids.dtype.kind not in "iu":
                raise ValueError(f"{path}: a list of ids is expected, got {ids.dtype} of shape {ids.shape}")
            parts.append(torch.from_numpy(ids.astype(np.int64)))
        found[rate] = LabelSplit(*parts)
    return found
