"""Graphs: a pattern, and the operators that encoders propagate through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numba
import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphcl.interactions import Interactions, pattern
from graphcl.ops import Operator, Sparse

if TYPE_CHECKING:
    from torch_geometric.data import Data

Features: TypeAlias = sparse.csr_matrix | Tensor  # [n, f] float32


@dataclass(frozen=True, eq=False)
class Graph:
    """An undirected graph over nodes that are grouped by kind.

    ``pairs`` numbers the undirected edges: entry e of ``adj`` belongs to pair ``pair_of_entry[e]``, so a change of the
    pairs (an edge dropped) changes both directions and the degrees with them. Both follow from ``adj`` and are made when asked for,
    as they are four times its size.
    """

    adj: Sparse  # [N, N] pattern of ones, symmetric
    ops: tuple[Operator, ...]  # one for every layer, or one per layer
    kinds: Mapping[str, slice]  # rows of each kind, e.g. {"user": slice(0, U), "item": slice(U, N)}
    exponents: tuple[float, float] = (0.5, 0.5)  # of the degrees: D^-a A D^-b
    ids: Tensor | None = None  # [N] global ids where this is a subgraph
    x: Tensor | None = None  # [N, f] features
    order: Tensor | None = field(default=None, repr=False)  # [N] the caller's number of each row, where rows were renumbered

    @property
    def num_nodes(self) -> int:
        return self.adj.shape[0]

    @property
    def num_pairs(self) -> int:
        return self.adj.nnz // 2

    @property
    def device(self) -> torch.device:
        return self.adj.col.device

    @cached_property
    def pairs(self) -> Tensor:  # [2, E] int64, first end < second end, ordered by both
        rows, upper = self._halves
        return torch.stack([rows[upper], self.adj.col[upper].long()])

    @cached_property
    def pair_of_entry(self) -> Tensor:  # [nnz] int64
        _, upper = self._halves
        numbers = torch.arange(self.num_pairs, device=self.device)
        out = torch.empty(self.adj.nnz, dtype=torch.int64, device=self.device)
        out[upper] = numbers
        # (i, j) with j < i, ordered by i, then by j; by j, then by i, they stand as the pairs do
        lower = (~upper).nonzero()[:, 0]
        out[lower[self.adj.col[lower].argsort(stable=True)]] = numbers
        return out

    @cached_property
    def mirror(self) -> Tensor:  # [nnz] int64
        """Position of the entry (j, i) for each entry (i, j) of ``adj``."""
        ends = self.pair_of_entry.argsort(stable=True).view(-1, 2)
        out = torch.empty_like(self.pair_of_entry)
        out[ends[:, 0]], out[ends[:, 1]] = ends[:, 1], ends[:, 0]
        return out

    @property
    def _halves(self) -> tuple[Tensor, Tensor]:
        """Row of each entry, and whether its column is the larger end."""
        rows = torch.repeat_interleave(torch.arange(self.num_nodes, device=self.device), self.adj.degrees())
        return rows, self.adj.col > rows

    def op(self, layer: int) -> Operator:
        """What layer ``layer`` (counted from 0) propagates through."""
        return self.ops[layer] if len(self.ops) > 1 else self.ops[0]

    def with_pairs(self, keep: Tensor) -> Graph:
        """The graph with only the pairs of the mask ``keep`` [E]; every operator is normalised anew by its own degrees."""
        if keep.dtype != torch.bool or keep.shape != (self.num_pairs,):
            raise ValueError(f"a mask of {self.num_pairs} pairs is needed, got {keep.dtype} {tuple(keep.shape)}")
        entry = keep[self.pair_of_entry]
        counts = torch.cat([entry.new_zeros(1, dtype=torch.int64), entry.cumsum(0)])
        ones = self.adj.left
        adj = Sparse(counts[self.adj.rowptr], self.adj.col[entry], self.adj.shape, left=ones, right=ones, symmetric=True)
        return replace(self, adj=adj, ops=(normalise(adj, *self.exponents),))

    def to(self, device: torch.device | str) -> Graph:
        def moved(t: Tensor | None) -> Tensor | None:
            return None if t is None else t.to(device)

        return replace(
            self,
            adj=self.adj.to(device),
            ops=tuple(op.to(device) for op in self.ops),
            ids=moved(self.ids),
            x=moved(self.x),
            order=moved(self.order),
        )

    @classmethod
    def from_pairs(
        cls,
        first: np.ndarray,  # [E] int
        second: np.ndarray,  # [E] int
        num_nodes: int,
        *,
        kinds: Mapping[str, slice] | None = None,
        exponents: tuple[float, float] = (0.5, 0.5),
        x: Tensor | None = None,
        dtype: torch.dtype = torch.float32,  # of the operators' scales
    ) -> Graph:
        """From undirected pairs in any order; repeats and reversed repeats merge, self-loops are left out."""
        _check_nodes(first, second, num_nodes)
        low, high = np.minimum(first, second), np.maximum(first, second)
        edges = low != high
        ends = (low[edges], high[edges])
        upper = sparse.csr_matrix((np.ones(len(ends[0]), dtype=np.bool_), ends), shape=(num_nodes, num_nodes))
        upper.sum_duplicates()
        upper.sort_indices()
        return cls.from_upper(upper, kinds=kinds, exponents=exponents, x=x, dtype=dtype)

    @classmethod
    def from_upper(
        cls,
        upper: sparse.csr_matrix,  # [N, N], entries above the diagonal alone, columns sorted, none twice
        *,
        kinds: Mapping[str, slice] | None = None,
        exponents: tuple[float, float] = (0.5, 0.5),
        x: Tensor | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Graph:
        """From the upper half of the adjacency matrix; besides the graph it needs one more such half."""
        num_nodes = upper.shape[0]
        lower = upper.T.tocsr()  # sorted too
        starts = upper.indptr.astype(np.int64) + lower.indptr
        col = np.empty(2 * upper.nnz, dtype=np.int32)
        _join_rows(lower.indptr, lower.indices, upper.indptr, upper.indices, col)
        ones = torch.ones(num_nodes, dtype=dtype)
        shape = (num_nodes, num_nodes)
        adj = Sparse(torch.from_numpy(starts), torch.from_numpy(col), shape, left=ones, right=ones, symmetric=True)
        return cls(adj, (normalise(adj, *exponents),), dict(kinds or {"node": slice(0, num_nodes)}), exponents, x=x)

    @classmethod
    def from_pyg(cls, data: Data) -> Graph:
        """From a homogeneous PyG ``Data``. Directions merge; rows are renumbered by degree, ``order`` leads back.

        Raises:
            ValueError: no ``edge_index``, or edges that carry weights or features, which a pattern would lose.
        """
        if getattr(data, "edge_index", None) is None:
            raise ValueError("the PyG Data has no edge_index")
        if lost := edge_values(data):
            raise ValueError(f"{lost} would be lost: graphcl.Graph holds a pattern; delete it or use ops.Sparse")
        first, second = data.edge_index.cpu().numpy()
        num_nodes = int(data.num_nodes)
        _check_nodes(first, second, num_nodes)
        degree = np.bincount(first, minlength=num_nodes) + np.bincount(second, minlength=num_nodes)
        order = np.argsort(-degree, kind="stable")
        place = np.empty(num_nodes, dtype=np.int64)
        place[order] = np.arange(num_nodes)
        rows = torch.from_numpy(order)
        x = None if data.x is None else data.x.cpu()[rows]
        return replace(cls.from_pairs(place[first], place[second], num_nodes, x=x), order=rows)

    def to_pyg(self) -> Data:
        """A PyG ``Data`` with both directions of each pair, in the caller's numbering."""
        from torch_geometric.data import Data

        edges = torch.cat([self.pairs, self.pairs.flip(0)], dim=1)
        x = self.x
        if self.order is not None:
            edges = self.order[edges]
            if x is not None:
                x = torch.empty_like(x).index_copy_(0, self.order, x)
        return Data(x=x, edge_index=edges, num_nodes=self.num_nodes)


def _check_nodes(first: np.ndarray, second: np.ndarray, num_nodes: int) -> None:
    if len(first):
        low, high = min(first.min(), second.min()), max(first.max(), second.max())
        if low < 0 or high >= num_nodes:
            raise ValueError(f"node numbers must lie in 0..{num_nodes - 1}, got {low}..{high}")


def as_features(x: Any, whose: str) -> Features:
    """An array, a tensor (sparse ones too) or a SciPy matrix of any format as float32.

    Raises:
        ValueError: something else, or a number that is not finite.
    """
    if isinstance(x, Tensor) and x.layout != torch.strided:
        rows = x.detach().cpu().to_sparse_csr()
        x = sparse.csr_matrix((rows.values().numpy(), rows.col_indices().numpy(), rows.crow_indices().numpy()), tuple(x.shape))
    if isinstance(x, Tensor):
        kept: Features = x.detach().cpu().float().contiguous()
    elif sparse.issparse(x):
        kept = sparse.csr_matrix(x).astype(np.float32, copy=False)
    else:
        array = np.asarray(x)
        if array.dtype.kind not in "fiub":
            raise ValueError(f"features of {whose} must be a table of numbers, got {array.dtype} of shape {array.shape}")
        kept = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
    values = kept if isinstance(kept, Tensor) else torch.from_numpy(kept.data)
    if not bool(values.isfinite().all()):
        raise ValueError(f"features of {whose} must be finite numbers; {int((~values.isfinite()).sum())} are not")
    return kept


def normalise(adj: Sparse, left: float = 0.5, right: float = 0.5) -> Sparse:
    """``D^-left A D^-right`` with the degrees of ``adj``, in its dtype; a node without edges has scale zero, never inf.

    The default is LightGCN's symmetric normalisation (no self-loops); LightGCN++ takes .6 and -.1.
    """
    degree = adj.degrees().double()

    def scale(exponent: float) -> Tensor:
        return torch.where(degree > 0, degree.clamp_min(1) ** -exponent, 0.0).to(adj.left.dtype)

    a = scale(left)
    return adj.scaled(a, a if left == right else scale(right))


def normalised_adjacency(graph: sparse.csr_matrix) -> Sparse:  # [N, N]
    """``D^-1/2 A^T D^-1/2`` with D the row sums of A: a node gathers from those whose lists hold it. Nodes without edges get zero.

    For a symmetric A it is the usual normalisation.

    Source: jianxiangyu/MEOW@6a072d7, whose expression comes to this.
    """
    sums = np.asarray(graph.sum(axis=1), dtype=np.float64).ravel()
    scale = torch.from_numpy(np.where(sums > 0, np.maximum(sums, 1e-300) ** -0.5, 0.0)).float()
    turned = Sparse.from_scipy(graph.T.tocsr().astype(np.float32))
    return turned.scaled(scale, scale)


def bipartite(
    interactions: Interactions, *, exponents: tuple[float, float] = (0.5, 0.5), dtype: torch.dtype = torch.float32
) -> Graph:
    """Users and items as one graph: user u is row u, item i is row U + i. Repeated interactions merge to one edge.

    Degrees come from these interactions alone, so pass the training part. Rows follow the vocabularies, which splits order by
    degree inside each kind: neighbours then share cache lines and a product takes less than half the time.
    """
    users, items = interactions.num_users, interactions.num_items
    cross = pattern(interactions)
    indptr = np.concatenate([cross.indptr, np.full(items, cross.nnz, dtype=cross.indptr.dtype)])
    upper = sparse.csr_matrix((cross.data, cross.indices + np.int32(users), indptr), shape=(users + items, users + items))
    del cross
    kinds = {"user": slice(0, users), "item": slice(users, users + items)}
    return Graph.from_upper(upper, kinds=kinds, exponents=exponents, dtype=dtype)


@numba.njit(parallel=True, cache=True)
def _join_rows(first_indptr, first_indices, second_indptr, second_indices, out):  # type: ignore[no-untyped-def]
    """Each row of the first matrix, and after it the same row of the second."""
    for row in numba.prange(len(first_indptr) - 1):
        to = np.int64(first_indptr[row]) + np.int64(second_indptr[row])
        for place in range(first_indptr[row], first_indptr[row + 1]):
            out[to] = first_indices[place]
            to += 1
        for place in range(second_indptr[row], second_indptr[row + 1]):
            out[to] = second_indices[place]
            to += 1


def edge_values(edges: Any) -> str | None:
    """The attribute of PyG edges, weights or features, that a pattern would lose; None where there is none."""
    return next((key for key in ("edge_weight", "edge_attr") if getattr(edges, key, None) is not None), None)
