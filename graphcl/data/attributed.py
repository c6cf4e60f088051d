"""Attributed graphs: nodes of one kind with features, undirected edges and, to evaluate with, classes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphcl.data import registry
from graphcl.data.arrays import read_archive
from graphcl.data.nodes import UNKNOWN, LabelSplit, check_splits, numbered
from graphcl.data.planetoid import name_in, read_planetoid
from graphcl.data.source import expanded, write_atomically
from graphcl.graph import Features, Graph, as_features, edge_values
from graphcl.interactions import whole

if TYPE_CHECKING:
    from torch_geometric.data import Data

PARTS = ("train", "val", "test")

_ARRAYS = {
    "edges", "x", "x_shape", "x_indptr", "x_indices", "xc_indptr", "xc_indices", "xc_data", "y", "unlabelled_idx",
    *(f"{part}_idx" for part in PARTS), "num_clusters",
    "self_loops", "subject",  # of data sets that were shipped so; loops are left out, and a subject is another name of y
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class AttributedData:
    """A graph to train on without labels, and its classes to evaluate with. Nodes stand in the caller's order.

    Raises:
        ValueError: features, labels or ids that do not fit the graph, a feature that is not finite, a graph whose rows were renumbered, a
            split that overlaps, is empty, names a node that does not exist, or one without a label, more clusters than nodes.
    """

    name: str
    graph: Graph  # the pattern, without self-loops
    x: Features  # [N, F] float32
    labels: Tensor  # [N] int64, 0 .. C - 1; UNKNOWN where there is none
    splits: Mapping[int, LabelSplit] = field(default_factory=dict)  # by label rate; Planetoid's public split is of rate 20
    num_clusters: int = 0  # to look for; 0: as many as there are classes, and it stays 0 where there is none
    classes: tuple[int, ...] = ()  # the caller's label of each class
    citation: str = ""
    ids: np.ndarray | None = field(default=None, repr=False)  # [N] the caller's id of each node, whole numbers or text

    def __post_init__(self) -> None:
        count = self.graph.num_nodes
        if not count:
            raise ValueError(f"{self.name}: there are no nodes")
        if self.graph.order is not None:
            raise ValueError(f"{self.name}: the graph's rows were renumbered; make it by Graph.from_pairs, or use from_pyg")
        if self.x.ndim != 2 or self.x.shape[0] != count or self.x.dtype not in (torch.float32, np.float32):
            told = f"{self.x.dtype} of shape {tuple(self.x.shape)}"
            raise ValueError(f"{self.name}: features must be a float32 table of {count} rows, one a node, got {told}")
        object.__setattr__(self, "x", as_features(self.x, self.name))
        if self.labels.shape != (count,) or self.labels.dtype != torch.int64:
            told = f"{self.labels.dtype} of shape {tuple(self.labels.shape)}"
            raise ValueError(f"{self.name}: labels must be int64 of shape ({count},), one a node, got {told}")
        check_splits(self.name, self.splits, self.labels, self.ids)
        for rate, split in self.splits.items():
            for part, ids in split._asdict().items():
                if not len(ids):
                    raise ValueError(f"{self.name}: {part}_{rate} is empty")
        wanted = whole(self.num_clusters, f"{self.name}: num_clusters")
        if not 0 <= wanted <= count:
            told = f"between 1 and the number of nodes, {count}, or be 0 for the number of classes, got {wanted}"
            raise ValueError(f"{self.name}: num_clusters must lie {told}")
        object.__setattr__(self, "num_clusters", wanted or self.num_classes)

    @property
    def num_classes(self) -> int:
        return int(self.labels.max()) + 1

    @classmethod
    def from_pyg(cls, data: Data, name: str = "graph", *, num_clusters: int = 0) -> AttributedData:
        """From a homogeneous PyG ``Data`` with ``x`` and, where there are any, ``y`` (negative or NaN: none) and the three masks.
        Directions merge, self-loops are left out. Masks may have a column for each split; a split's rate is its training nodes
        over the classes.

        Raises:
            ValueError: no ``edge_index`` or ``x``, edges with weights or features (which a pattern would lose), labels or masks that do not fit.
        """
        if getattr(data, "edge_index", None) is None or getattr(data, "x", None) is None:
            raise ValueError(f"{name}: a PyG Data with edge_index and x is needed")
        if lost := edge_values(data):
            raise ValueError(f"{name}: {lost} would be lost, for the graph is a pattern; delete it")
        first, second = data.edge_index.cpu().numpy()
        count = int(data.x.shape[0])
        y = torch.full((count,), UNKNOWN) if getattr(data, "y", None) is None else data.y.detach().cpu()
        labels, classes = numbered((y[:, 0] if y.shape[1:] == (1,) else y).numpy(), f"{name}: y")
        return cls(
            name, Graph.from_pairs(first, second, count), data.x.cpu().float(), labels,
            _masks(data, name, count, labels), num_clusters, classes,
        )  # fmt: skip

    def to_pyg(self) -> Data:
        """A PyG ``Data`` with dense features, both directions of each edge, and masks, with a column each where splits are several."""
        made = self.graph.to_pyg()
        made.x = self.x if isinstance(self.x, Tensor) else torch.from_numpy(self.x.toarray())
        made.y = self.labels
        for part in PARTS if self.splits else ():
            mask = torch.zeros(len(self.labels), len(self.splits), dtype=torch.bool)
            for column, split in enumerate(self.splits.values()):
                mask[split[PARTS.index(part)], column] = True
            made[f"{part}_mask"] = mask[:, 0] if len(self.splits) == 1 else mask
        return made


def _masks(data: Data, name: str, count: int, labels: Tensor) -> dict[int, LabelSplit]:
    given = {part: getattr(data, f"{part}_mask", None) for part in PARTS}
    masks = {part: mask for part, mask in given.items() if mask is not None}
    if not masks:
        return {}
    if len(masks) < len(PARTS):
        told = ", ".join(f"{part}_mask" for part in masks)
        warnings.warn(
            f"{name}: a split is train_mask, val_mask and test_mask; only {told} is there, so there is none", stacklevel=3
        )
        return {}
    for part, mask in masks.items():
        if mask.dtype != torch.bool or mask.ndim not in (1, 2) or len(mask) != count:
            raise ValueError(f"{name}: {part}_mask must be bool of {count} rows, got {mask.dtype} {tuple(mask.shape)}")
    tables = [mask.cpu().view(count, -1) for mask in masks.values()]
    if len({table.shape[1] for table in tables}) > 1:
        raise ValueError(f"{name}: the masks differ in their numbers of columns")
    found: dict[int, LabelSplit] = {}
    for column in range(tables[0].shape[1]):
        split = LabelSplit(*(table[:, column].nonzero()[:, 0] for table in tables))
        rate = rate_of(split, labels)
        if rate in found:
            raise ValueError(f"{name}: two splits have {rate} training nodes a class; keep one column of the masks")
        found[rate] = split
    return found


def rate_of(split: LabelSplit, labels: Tensor) -> int:
    """Training nodes a class, on average."""
    return max(1, round(len(split.train) / max(1, int(labels.max()) + 1)))


def load_attributed(source: Any, *, num_clusters: int = 0) -> AttributedData:
    """A registered data set by name, looked for in the group attributed first, a path that `read_attributed` reads, or a PyG ``Data``.
    ``num_clusters`` goes over that of the data; 0 leaves it.

    Raises:
        FileNotFoundError: what to put where.
        ValueError: as `read_attributed`; an unknown name, one that is something else, a file of other counts than registered, or
            ``num_clusters`` outside 0..N.
    """
    found = _load(source)
    return replace(found, num_clusters=num_clusters) if num_clusters else found


def _load(source: Any) -> AttributedData:
    if isinstance(source, AttributedData):
        return source
    if type(source).__module__.startswith("torch_geometric."):
        return AttributedData.from_pyg(source)
    if not isinstance(source, (str, Path)):
        raise ValueError(
            f"an attributed graph is needed: a name, a path, AttributedData or a PyG Data, got {type(source).__name__}"
        )
    config = registry.configured(source, group="attributed")
    if config is None:
        return read_attributed(source)
    if config.format != "attributed":
        raise ValueError(
            f"{config.full_name} is no attributed graph, but one is needed here; `graphcl data list` tells which are"
        )
    files = registry.locate(config)
    registry.check_sums(config, files)
    data = read_attributed(files["graph"], config.name)
    found = {
        "nodes": data.graph.num_nodes,
        "edges": data.graph.num_pairs,
        "features": data.x.shape[1],
        "classes": data.num_classes,
    }
    found["unlabelled"] = int((data.labels == UNKNOWN).sum())
    registry.check_counts(config, found, list(config.counts))
    return replace(data, citation=config.citation)


def read_attributed(path: str | Path, name: str | None = None) -> AttributedData:
    """A ``.npz`` file, or a folder with one, or with Planetoid's raw files (``ind.NAME.x``, ...).

    Arrays of the ``.npz``: ``edges`` [E, 2], each pair once or twice; ``y`` [N], negative where there is no label; ``x_shape`` and either
    ``x_indptr`` and ``x_indices``, the CSR pattern of binary features, or ``xc_indptr``, ``xc_indices`` and ``xc_data``, the CSC form of
    others; or ``x`` [N, F]. Where there is a split, ``train_idx``, ``val_idx`` and ``test_idx``. ``num_clusters``, where it is not the
    number of classes. Nodes in ``unlabelled_idx`` have no label whatever ``y`` says, and without ``y`` no node has one. ``self_loops`` and
    ``subject`` are passed over; other arrays are not read, which a warning says; weights of edges are refused.

    Raises:
        FileNotFoundError: no such file or folder, or one without a graph.
        ValueError: what stands in a file is wrong; it is named.
    """
    root = expanded(path)
    if root.is_dir():
        planetoid = name_in(root)
        if planetoid is not None:
            return _planetoid(root, planetoid, name)
        archives = sorted(root.glob("*.npz"))
        if len(archives) != 1:
            raise FileNotFoundError(
                f"{root}: one .npz file or Planetoid's ind.NAME.* files are expected, found {len(archives)} .npz"
            )
        root = archives[0]
    if not root.is_file():
        raise FileNotFoundError(f"{root}: no such file or folder")
    arrays = read_archive(root)
    if unknown := sorted(set(arrays) - _ARRAYS):
        told = f"{root}: {', '.join(unknown)} will not be read; known arrays: {', '.join(sorted(_ARRAYS))}"
        if {"edge_weight", "edge_attr"} & set(unknown):
            raise ValueError(f"{told}. The graph is a pattern, so what edges carry would be lost; leave it out of the file")
        warnings.warn(told, stacklevel=2)
    edges = _array(arrays, "edges", root, 2)
    x = _features(arrays, root)
    y = _array(arrays, "y", root, 1) if "y" in arrays else np.full(x.shape[0], UNKNOWN)
    if len(y) != x.shape[0]:
        raise ValueError(f"{root}: features of shape {tuple(x.shape)} for {len(y)} labels in y")
    if edges.shape[1] != 2:
        raise ValueError(f"{root}: edges must be [E, 2], got {edges.shape}")
    if "unlabelled_idx" in arrays:
        y = y.copy()
        y[_ids(arrays, "unlabelled_idx", root, len(y))] = UNKNOWN
    if len(edges):
        _in_range(edges, "edges", root, len(y))
    labels, classes = numbered(y, f"{root}: y")
    parts = [part for part in PARTS if f"{part}_idx" in arrays]
    if parts and len(parts) < len(PARTS):
        raise ValueError(
            f"{root}: a split is train_idx, val_idx and test_idx, but only {', '.join(f'{p}_idx' for p in parts)} is there"
        )
    splits = {}
    if parts:
        split = LabelSplit(*(torch.from_numpy(_ids(arrays, f"{part}_idx", root, len(y))) for part in PARTS))
        splits[rate_of(split, labels)] = split
    graph = Graph.from_pairs(edges[:, 0], edges[:, 1], len(y))
    clusters = arrays.get("num_clusters", np.array(0))
    if clusters.shape != () or clusters.dtype.kind not in "iu":
        raise ValueError(f"{root}: num_clusters must be one whole number, got {clusters.dtype} of shape {clusters.shape}")
    return AttributedData(name or root.stem, graph, x, labels, splits, int(clusters), classes)


def _planetoid(folder: Path, stem: str, name: str | None) -> AttributedData:
    found = read_planetoid(folder, stem)
    labels, classes = numbered(found.labels, f"{folder / f'ind.{stem}.ally'}")
    split = LabelSplit(*(torch.from_numpy(ids) for ids in found.split))
    graph = Graph.from_pairs(found.edges[:, 0], found.edges[:, 1], len(labels))
    return AttributedData(name or stem, graph, found.x, labels, {rate_of(split, labels): split}, classes=classes)


def write_attributed(data: AttributedData, path: str | Path) -> None:
    """A ``.npz`` that `read_attributed` reads.

    Raises:
        ValueError: several splits, or another ending.
    """
    target = expanded(path)
    if target.suffix != ".npz" or len(data.splits) > 1:
        raise ValueError(f"{target}: the file must end in .npz, and hold one split at most; the data have {len(data.splits)}")
    y = data.labels.numpy()
    if y.max() >= 0 and len(data.classes) == data.num_classes:  # as the caller has them
        y = np.where(y == UNKNOWN, UNKNOWN, np.array(data.classes)[y])
    arrays: dict[str, np.ndarray] = {"edges": data.graph.pairs.T.numpy().astype(np.int32), "y": y}
    if data.num_clusters != data.num_classes:
        arrays["num_clusters"] = np.array(data.num_clusters)
    if isinstance(data.x, Tensor):
        arrays["x"] = data.x.numpy()
    else:
        binary = bool((data.x.data == 1).all())
        table = data.x if binary else data.x.tocsc()
        key = "x" if binary else "xc"
        arrays |= {"x_shape": np.array(data.x.shape), f"{key}_indptr": table.indptr, f"{key}_indices": table.indices}
        if not binary:
            arrays["xc_data"] = table.data
    for split in data.splits.values():
        arrays |= {f"{part}_idx": ids.numpy() for part, ids in zip(PARTS, split, strict=True)}

    def save(part: Path) -> None:
        with part.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    write_atomically(target, save)


def _array(arrays: Mapping[str, np.ndarray], key: str, path: Path, ndim: int) -> np.ndarray:
    """Whole numbers, as int64: small types of ids are widened before they are used."""
    if key not in arrays:
        raise ValueError(
            f"{path}: there is no array {key}; it has {', '.join(arrays) or 'none'}. An attributed graph has edges [E, 2] and x [N, F], "
            "or the parts of a sparse x, and perhaps y [N], train_idx, val_idx, test_idx"
        )
    found = arrays[key]
    if found.ndim != ndim or found.dtype.kind not in "iu":
        raise ValueError(f"{path}: {key} must hold whole numbers in {ndim} dimensions, got {found.dtype} of shape {found.shape}")
    return found.astype(np.int64)


def _ids(arrays: Mapping[str, np.ndarray], key: str, path: Path, count: int) -> np.ndarray:
    return _in_range(_array(arrays, key, path, 1), key, path, count)


def _in_range(ids: np.ndarray, key: str, path: Path, count: int) -> np.ndarray:
    outside = ids[(ids < 0) | (ids >= count)]
    if len(outside):
        raise ValueError(f"{path}: {key} names node {outside[0]}, but there are {count}")
    return ids


def _features(arrays: Mapping[str, np.ndarray], path: Path) -> Features:
    if "x" in arrays:
        if arrays["x"].dtype.kind not in "fiub":
            raise ValueError(f"{path}: x must be a table of numbers, got {arrays['x'].dtype}")
        found: Features = torch.from_numpy(arrays["x"].astype(np.float32))
    else:
        shape = _array(arrays, "x_shape", path, 1)
        key, form = ("xc", sparse.csc_matrix) if "xc_data" in arrays else ("x", sparse.csr_matrix)
        indptr, indices = (_array(arrays, f"{key}_{part}", path, 1) for part in ("indptr", "indices"))
        values = arrays.get("xc_data", np.ones(len(indices), dtype=np.float32))
        if values.dtype.kind not in "fiub":
            raise ValueError(f"{path}: xc_data must be numbers, got {values.dtype}")
        try:
            made = form((values.astype(np.float32), indices.astype(np.int32), indptr.astype(np.int64)), shape=tuple(shape))
            made.check_format(full_check=True)
        except ValueError as error:
            raise ValueError(f"{path}: the features ({key}_indptr, {key}_indices) are no sparse matrix ({error})") from None
        found = made.tocsr()
        found.sort_indices()
    if found.ndim != 2:
        raise ValueError(f"{path}: x must be a table [N, F], got shape {tuple(found.shape)}")
    values = found.numpy() if isinstance(found, Tensor) else found.data
    if not np.isfinite(values).all():
        raise ValueError(f"{path}: a feature is not finite")
    return found
