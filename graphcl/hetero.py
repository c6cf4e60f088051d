"""Heterogeneous graphs: nodes of several types, relations as operators, meta-paths that are chained and not multiplied out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphcl.graph import Features, as_features, edge_values
from graphcl.ops import Operator, Product, Sparse, draw_key
from graphcl.ops.commuting import last_sorted, num_entries, strongest

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData

Tie = Literal["random", "released"]
MetaPath: TypeAlias = str | Sequence[str]  # "APCPA", "author-paper-author", ["author", "paper", "author"]


class Context(NamedTuple):
    """What a target node sees of one type along a meta-path: ``mean @ x`` is [N, d] for x over the nodes of that type."""

    type: str
    mean: Operator  # [N, n]; zero rows where a node sees none


@dataclass(frozen=True, eq=False)
class HeteroGraph:
    """Typed nodes, at most one relation between two types, and one type that embeddings are learned of.

    ``relations[a, b]`` is a pattern [n_a, n_b]; the way back is its transpose and need not be given. Repeated edges merge. A type
    that ``x`` leaves out has no features: encoders give it an embedding table, never an identity matrix.

    A meta-path is written with types of one letter, or with the initials of longer names where those differ ("APCPA"), with names
    between dashes, or as a list of names.

    Raises:
        ValueError: a relation between unknown types or of another shape than their counts, features of another number of rows, an
            unknown target, a feature that is not finite.
    """

    counts: Mapping[str, int]  # nodes of each type
    relations: Mapping[tuple[str, str], sparse.csr_matrix]  # [n_a, n_b]
    target: str
    x: Mapping[str, Features] = field(default_factory=dict)  # kept as float32

    def __post_init__(self) -> None:
        if self.target not in self.counts:
            raise ValueError(f"the target {self.target!r} is no type; types: {', '.join(self.counts)}")
        patterns = {}
        for (a, b), matrix in self.relations.items():
            for name in (a, b):
                if name not in self.counts:
                    raise ValueError(f"relation {a}-{b}: {name!r} is no type; types: {', '.join(self.counts)}")
            if a != b and (b, a) in self.relations:
                raise ValueError(f"relation {a}-{b} is given both ways; give one, its transpose is the other")
            if matrix.shape != (self.counts[a], self.counts[b]):
                raise ValueError(
                    f"relation {a}-{b} is of shape {matrix.shape}, but there are {self.counts[a]} {a} and {self.counts[b]} {b}"
                )
            # Entries are told from 0 before repeated ones are merged, for their sum may be 0, or run over.
            pattern = sparse.coo_matrix(matrix)
            some = pattern.data != 0
            pattern = sparse.csr_matrix((some[some], (pattern.row[some], pattern.col[some])), shape=pattern.shape)
            pattern.sum_duplicates()
            pattern.data = np.ones(pattern.nnz, dtype=np.int32)
            patterns[a, b] = pattern
        object.__setattr__(self, "relations", patterns)
        features = {}
        for name, table in self.x.items():
            if name not in self.counts:
                raise ValueError(f"features of {name!r}, which is no type; types: {', '.join(self.counts)}")
            kept = as_features(table, name)
            if kept.ndim != 2 or kept.shape[0] != self.counts[name]:
                raise ValueError(f"features of {name} are of shape {tuple(kept.shape)}, but there are {self.counts[name]} {name}")
            features[name] = kept
        object.__setattr__(self, "x", features)

    @classmethod
    def from_edges(
        cls,
        counts: Mapping[str, int],
        edges: Mapping[tuple[str, str], np.ndarray],  # each [2, E] int
        target: str,
        x: Mapping[str, Features] | None = None,
    ) -> HeteroGraph:
        """From lists of edges. Raises ValueError, besides those of the class, for an id outside its type or a list of another shape."""
        for key in edges:
            if len(key) != 2:
                raise ValueError(
                    f"edges are keyed by two types, (from, to), got {key!r}; the name of a relation has no place here"
                )
        relations = {(a, b): _pattern(ends, a, b, counts) for (a, b), ends in edges.items()}
        return cls(counts, relations, target, x or {})

    @property
    def num_targets(self) -> int:
        return self.counts[self.target]

    def relation(self, a: str, b: str) -> sparse.csr_matrix:
        """The pattern [n_a, n_b]. Raises ValueError where the two types are not related."""
        if (a, b) in self.relations:
            return self.relations[a, b]
        if (b, a) in self.relations:
            return self.relations[b, a].T.tocsr()
        known = ", ".join(f"{x}-{y}" for x, y in self.relations)
        raise ValueError(f"there is no relation between {a} and {b}; relations: {known}")

    def types(self, metapath: MetaPath) -> tuple[str, ...]:
        """The node types along a meta-path.

        Raises:
            ValueError: an unknown type, fewer than two types, or two types that are not related.
        """
        if isinstance(metapath, str) and metapath not in self.counts:
            steps = metapath.split("-") if "-" in metapath else list(metapath)
        else:
            steps = [metapath] if isinstance(metapath, str) else list(metapath)
        found = tuple(self._type(step, metapath) for step in steps)
        if len(found) < 2:
            raise ValueError(f"meta-path {_shown(metapath)} needs at least two types")
        for a, b in pairwise(found):
            if (a, b) not in self.relations and (b, a) not in self.relations:
                known = ", ".join(f"{x}-{y}" for x, y in self.relations)
                raise ValueError(f"meta-path {_shown(metapath)}: there is no relation between {a} and {b}; relations: {known}")
        return found

    def _type(self, step: str, metapath: MetaPath) -> str:
        if step in self.counts:
            return step
        meant = [name for name in self.counts if len(step) == 1 and name[:1].lower() == step.lower()]
        if len(meant) == 1:
            return meant[0]
        reason = f"could be {' or '.join(meant)}" if meant else "is no type"
        hint = "; give the types as a list, for '-' parts them in a text" if any("-" in name for name in self.counts) else ""
        raise ValueError(f"meta-path {_shown(metapath)}: {step!r} {reason}; types: {', '.join(self.counts)}{hint}")

    def path(self, metapath: MetaPath) -> Operator:
        """Path counts from the first type to the last as a chained operator: no product is formed."""
        return Product(*(Sparse.from_scipy(self.relation(a, b)) for a, b in pairwise(self.types(metapath))))

    def instances(self, metapath: MetaPath) -> int:
        """How many paths there are, counted without listing or multiplying them out."""
        types = self.types(metapath)
        reach = np.ones(self.counts[types[-1]], dtype=np.int64)
        for a, b in reversed(list(pairwise(types))):
            reach = self.relation(a, b).astype(np.int64) @ reach
        return int(reach.sum())

    def pairs(self, metapath: MetaPath) -> int:
        """How many distinct pairs of ends a meta-path joins, self pairs among them, counted row by row. Raises ValueError as ``half``."""
        return num_entries(self.half(metapath))

    def half(self, metapath: MetaPath) -> sparse.csr_matrix:  # [N, n of the middle type] int64
        """Path counts to the middle of a meta-path that reads the same both ways: the whole is this times its transpose.

        Raises:
            ValueError: a meta-path without a middle type, or that is not its own reverse. A hop within one type is its own reverse
                only where that relation is symmetric.
        """
        types = self.types(metapath)
        if len(types) % 2 == 0 or types != types[::-1]:
            raise ValueError(
                f"meta-path {_shown(metapath)} must read the same both ways around a middle type, as APA or APCPA does"
            )
        for a, b in pairwise(types):
            if a == b and (self.relations[a, a] != self.relations[a, a].T).nnz:
                raise ValueError(
                    f"meta-path {_shown(metapath)} is not its own reverse, for the relation {a}-{a} is not symmetric; add its transpose"
                )
        return self._chained(types[: len(types) // 2 + 1])

    def _chained(self, types: Sequence[str]) -> sparse.csr_matrix:
        found = self.relation(types[0], types[1]).astype(np.int64)
        for a, b in list(pairwise(types))[1:]:
            found = found @ self.relation(a, b).astype(np.int64)
        return found.tocsr()

    def pathsim(
        self,
        metapath: MetaPath,
        k: int | None,
        *,
        tie: Tie = "random",
        rng: torch.Generator | None = None,
    ) -> sparse.csr_matrix:  # [N, N] int64 path counts
        """The meta-path's graph with, in each row, the ``k`` nodes of largest PathSim ``2 c_ij / (c_ii + c_jj)``; None keeps all.

        Entries are path counts, self pairs compete like any other, the result is not symmetric. Which of equal scores stay at the
        limit is drawn at random for each row: the order of ids often follows the classes, so a rule by ids would leak labels.
        ``tie="released"`` keeps what numpy's sort leaves last instead, as the release does: with AVX-512 others than without (on
        ACM's PSP 75 and 57 % of one class, 68 by chance). Rows are made one at a time, so N x N is not held unless ``k`` is None
        and the graph is dense.

        Raises:
            ValueError: as ``half``; k below 1, another tie, or random ties without ``rng``.

        Source: Sun et al., PathSim, VLDB 2011; jianxiangyu/MEOW@6a072d7.
        """
        if k is not None and k < 1:
            raise ValueError(f"k must be 1 or more, got {k}")
        if tie not in get_args(Tie):
            raise ValueError(f"tie must be one of {', '.join(get_args(Tie))}, got {tie!r}")
        half = self.half(metapath)
        if tie == "released" and k is not None:
            return last_sorted(half, k)
        if k is not None and rng is None:
            raise ValueError("ties at the limit are broken at random: give rng, a torch.Generator")
        return strongest(half, k, 0 if rng is None else draw_key(rng))

    def contexts(self, metapath: MetaPath, *, distinct: bool = False) -> tuple[Context, ...]:
        """For each type between the ends of a meta-path from the target, the mean over its nodes that a target sees on the way.

        Up to the middle of the path each node seen counts once. Beyond it (the second P of APCPA) the mean is over path instances
        from the middle nodes, chained so that no product is formed; that is the mean over distinct nodes where the last relation
        is a function (each paper has one conference). ``distinct`` counts each node once there too, and holds that pattern, which
        can be dense (13 million entries for the APTPA of DBLP).

        Raises:
            ValueError: a meta-path that does not start at the target type.
        """
        types = self.types(metapath)
        if types[0] != self.target:
            raise ValueError(f"meta-path {_shown(metapath)} must start at the target type, {self.target}")
        middle = len(types) // 2
        found = []
        for place in range(1, len(types) - 1):
            if place <= middle or distinct:
                factors = [(self._chained(types[: place + 1]) > 0).astype(np.int32)]
            else:
                factors = [(self._chained(types[: middle + 1]) > 0).astype(np.int32)]
                factors += [self.relation(a, b) for a, b in pairwise(types[middle : place + 1])]
            found.append(Context(types[place], _mean(factors)))
        return tuple(found)

    def reordered(self, order: np.ndarray) -> HeteroGraph:
        """The same graph with target ``order[i]`` as number i."""
        if sorted(order.tolist()) != list(range(self.num_targets)):
            raise ValueError(f"a permutation of {self.num_targets} targets is needed")
        relations = {}
        for (a, b), matrix in self.relations.items():
            rows = matrix[order] if a == self.target else matrix
            relations[a, b] = rows[:, order] if b == self.target else rows
        x = {name: table[order] if name == self.target else table for name, table in self.x.items()}
        return replace(self, relations=relations, x=x)

    @classmethod
    def from_pyg(cls, data: HeteroData, target: str, edge_types: Sequence[tuple[str, str, str]] | None = None) -> HeteroGraph:
        """From a PyG ``HeteroData``; edge types that are another's reverse count once. Labels and masks stay behind.

        Raises:
            ValueError: two different edge types between the same node types (choose by ``edge_types``), edges with weights, which a
                pattern would lose, an unknown edge type, one without ``edge_index``, or a node type of unknown size.
        """
        chosen = list(data.edge_types) if edge_types is None else list(edge_types)
        counts = {}
        for name in data.node_types:
            if data[name].get("num_nodes") is None and data[name].get("x") is None:
                raise ValueError(f"how many {name} there are is not said; set data[{name!r}].num_nodes")
            counts[name] = int(data[name].num_nodes)
        relations: dict[tuple[str, str], sparse.csr_matrix] = {}
        for kind in chosen:
            if kind not in data.edge_types:
                raise ValueError(f"no edge type {kind}; edge types: {', '.join(map(str, data.edge_types))}")
            if lost := edge_values(data[kind]):
                raise ValueError(f"{lost} of {kind} would be lost: graphcl.HeteroGraph holds patterns; delete it first")
            if data[kind].get("edge_index") is None:
                raise ValueError(f"{kind} has no edge_index")
            a, _, b = kind
            new = _pattern(data[kind].edge_index.cpu().numpy(), a, b, counts)
            old = relations.get((a, b), relations[b, a].T.tocsr() if (b, a) in relations else None)
            if old is None:
                relations[a, b] = new
            elif old.shape != new.shape or ((old != new).nnz and (a != b or (old != new.T).nnz)):
                raise ValueError(f"several edge types join {a} and {b}; name the ones to take in edge_types")
        x = {name: data[name].x.cpu() for name in data.node_types if data[name].get("x") is not None}
        return cls(counts, relations, target, x)

    def to_pyg(self) -> HeteroData:
        """A PyG ``HeteroData`` with both directions of each relation, ``(a, "to", b)`` and ``(b, "rev_to", a)``."""
        from torch_geometric.data import HeteroData

        data = HeteroData()
        for name, count in self.counts.items():
            data[name].num_nodes = count
            if name in self.x:
                table = self.x[name]
                data[name].x = table if isinstance(table, Tensor) else torch.from_numpy(table.toarray())
        for (a, b), matrix in self.relations.items():
            ends = torch.from_numpy(np.stack(matrix.nonzero()).astype(np.int64))
            data[a, "to", b].edge_index = ends
            if a != b:
                data[b, "rev_to", a].edge_index = ends.flip(0)
        return data


def _pattern(ends: np.ndarray, a: str, b: str, counts: Mapping[str, int]) -> sparse.csr_matrix:  # [2, E] -> [n_a, n_b]
    ends = np.asarray(ends)
    if ends.ndim != 2 or len(ends) != 2 or ends.dtype.kind not in "iu":
        raise ValueError(f"relation {a}-{b}: edges are whole numbers [2, E], got {ends.dtype} of shape {ends.shape}")
    for name, ids in zip((a, b), ends, strict=True):
        if name not in counts:
            raise ValueError(f"relation {a}-{b}: {name!r} is no type; types: {', '.join(counts)}")
        size = counts[name]
        if len(ids) and not 0 <= ids.min() <= ids.max() < size:
            wrong = int(ids.max() if ids.max() >= size else ids.min())
            raise ValueError(f"relation {a}-{b}: there is no {name} {wrong}; ids of {name} run from 0 to {size - 1}")
    pattern = sparse.csr_matrix((np.ones(ends.shape[1], dtype=np.int32), (ends[0], ends[1])), shape=(counts[a], counts[b]))
    pattern.data = np.ones(pattern.nnz, dtype=np.int32)  # repeated edges merge
    return pattern


def _mean(factors: Sequence[sparse.csr_matrix]) -> Operator:
    """``D^-1 F_1 F_2 ...`` with D the row sums of the product, which is not formed."""
    total: Any = np.ones(factors[-1].shape[1])
    for factor in reversed(factors):
        total = factor @ total
    first, *rest = (Sparse.from_scipy(factor) for factor in factors)
    left = torch.from_numpy(np.divide(1.0, total, out=np.zeros_like(total), where=total > 0)).float()
    first = first.scaled(left, first.right)
    return Product(first, *rest) if rest else first


def _shown(metapath: MetaPath) -> str:
    return repr(metapath) if isinstance(metapath, str) else "-".join(metapath)
