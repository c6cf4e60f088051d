"""A sparse matrix as pattern and scaling vectors: ``diag(left) P diag(right)``, edge values only where they differ."""

from __future__ import annotations

import warnings
import weakref
from functools import cached_property

import numba
import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.autograd import Function

from graphcl.ops import kernels, memory
from graphcl.ops.counter import halves
from graphcl.ops.dense import row_numbers
from graphcl.ops.segment import pointers_of

_CHUNKS_PER_THREAD = 16
_EDGES = 2**20  # that have a row each at a time, where torch adds them up
_MOST_ENTRIES = 2**31 - 1  # of torch's CSR with 32-bit columns


class Sparse:
    """CSR pattern (int64 pointers, int32 columns) times a scale per row and per column.

    A degree-normalised graph needs no value per edge this way, and its transpose is itself with the scales exchanged:
    ``symmetric=True`` says that pattern and values equal their transpose, and then nothing is built for the backward.

    Raises:
        ValueError: pointers, columns, values or scales do not fit the shape.
    """

    def __init__(
        self,
        rowptr: Tensor,  # [n + 1] int64
        col: Tensor,  # [nnz] int32
        shape: tuple[int, int],
        *,
        values: Tensor | None = None,  # [nnz]
        left: Tensor | None = None,  # [n]
        right: Tensor | None = None,  # [m]
        symmetric: bool = False,
        transpose: Sparse | None = None,
    ):
        n, m = shape
        if len(rowptr) != n + 1 or int(rowptr[0]) != 0 or int(rowptr[-1]) != len(col) or bool((rowptr.diff() < 0).any()):
            raise ValueError(
                f"row pointers must rise from 0 to {len(col)} edges over {n} rows; "
                f"got {len(rowptr)} from {rowptr[:1].tolist()} to {rowptr[-1:].tolist()}"
            )
        if len(col) and not 0 <= int(col.min()) <= int(col.max()) < m:  # the kernels check no bounds
            raise ValueError(f"columns must lie in 0..{m - 1}, got {int(col.min())}..{int(col.max())}")
        if values is not None and len(values) != len(col):
            raise ValueError(f"{len(values)} values for {len(col)} edges")
        if symmetric and n != m:
            raise ValueError(f"a symmetric matrix is square, not {shape}")
        self.rowptr, self.col, self.values, self.shape = rowptr, col, values, shape
        self.left = torch.ones(n, device=col.device) if left is None else left
        self.right = (self.left if left is None and n == m else torch.ones(m, device=col.device)) if right is None else right
        if len(self.left) != n or len(self.right) != m:
            raise ValueError(f"scales of {len(self.left)} rows and {len(self.right)} columns do not fit shape {shape}")
        self.symmetric = symmetric
        # A matrix holds its transpose, but not the other way round: a cycle would keep dropped graphs until Python looks for cycles,
        # which it does by their number, not their size.
        self._transpose: Sparse | None = None
        self._transpose_of = None if transpose is None else weakref.ref(transpose)
        self._chunks: np.ndarray | None = None
        self._csr: Tensor | None = None

    @classmethod
    def from_scipy(cls, matrix, *, dtype: torch.dtype = torch.float32) -> Sparse:
        """From any SciPy matrix; repeated entries add up, values are kept unless all are one."""
        csr = sparse.csr_matrix(matrix)
        if not csr.has_canonical_format:
            csr = csr.copy()  # it may share the caller's arrays
            csr.sum_duplicates()
        if csr.shape[1] > np.iinfo(np.int32).max:
            raise ValueError(f"{csr.shape[1]} columns do not fit 32-bit indices")
        values = None if bool((csr.data == 1).all()) else torch.from_numpy(csr.data.copy()).to(dtype)
        n, m = csr.shape
        return cls(
            torch.from_numpy(csr.indptr.astype(np.int64)),
            torch.from_numpy(csr.indices.astype(np.int32)),
            (n, m),
            values=values,
            left=torch.ones(n, dtype=dtype),
            right=torch.ones(m, dtype=dtype),
        )

    def to_scipy(self) -> sparse.csr_matrix:
        """[n, m] with every scale multiplied in."""
        return sparse.csr_matrix(
            (self.entries().cpu().numpy(), self.col.cpu().numpy(), self.rowptr.cpu().numpy()), shape=self.shape
        )

    @property
    def nnz(self) -> int:
        return len(self.col)

    @cached_property
    def _sorted(self) -> bool:
        """Columns rise within each row."""
        falls = torch.zeros(self.nnz + 1, dtype=torch.bool, device=self.col.device)
        falls[1:-1] = self.col[1:] < self.col[:-1]
        falls[self.rowptr] = False  # from one row to the next they may fall
        return not bool(falls.any())

    def degrees(self) -> Tensor:  # [n] int64
        return self.rowptr.diff()

    def entries(self) -> Tensor:  # [nnz]
        """The value of each stored entry, scales included."""
        out = torch.repeat_interleave(self.left, self.degrees()) * self.right[self.col.long()]
        return out if self.values is None else out * self.values

    def scaled(self, left: Tensor, right: Tensor) -> Sparse:
        """The same pattern and values between new scales; the pattern is shared."""
        out = self._copy(left=left, right=right)
        if self._transpose is not None:
            out._transpose = self._transpose._copy(left=right, right=left, transpose=out)
        out._chunks = self._chunks
        return out

    def _copy(self, **changes) -> Sparse:
        fields = dict(values=self.values, left=self.left, right=self.right, symmetric=self.symmetric)
        return Sparse(self.rowptr, self.col, self.shape, **{**fields, **changes})

    @property
    def T(self) -> Sparse:
        if self.symmetric and self.left is self.right:
            return self
        origin = None if self._transpose_of is None else self._transpose_of()
        if origin is not None:
            return origin
        if self._transpose is None:
            if self.symmetric:
                self._transpose = self._copy(left=self.right, right=self.left, transpose=self)
                self._transpose._chunks = self._chunks
            else:
                self._transpose = self._build_transpose()
        return self._transpose

    def _build_transpose(self) -> Sparse:
        marks = np.arange(self.nnz)  # where each entry came from; float64 would do as well, ints say more
        pattern = sparse.csr_matrix((marks, self.col.cpu().numpy(), self.rowptr.cpu().numpy()), shape=self.shape).tocsc()
        source = torch.from_numpy(pattern.data.astype(np.int64)).to(self.col.device)
        return Sparse(
            torch.from_numpy(pattern.indptr.astype(np.int64)).to(self.col.device),
            torch.from_numpy(pattern.indices.astype(np.int32)).to(self.col.device),
            (self.shape[1], self.shape[0]),
            values=None if self.values is None else self.values[source],
            left=self.right,
            right=self.left,
            transpose=self,
        )

    def rows(self, ids: Tensor) -> SparseRows:
        """Only some outputs, in the order asked for; negative ids count from the end."""
        ids = row_numbers(ids).to(self.rowptr.device)
        if len(ids) and not -self.shape[0] <= int(ids.min()) <= int(ids.max()) < self.shape[0]:
            raise IndexError(f"rows must lie in 0..{self.shape[0] - 1}, got {int(ids.min())}..{int(ids.max())}")
        return SparseRows(self, torch.where(ids < 0, ids + self.shape[0], ids))

    def select(self, ids: Tensor) -> Sparse:
        """The rows ``ids`` as a matrix of their own."""
        counts = self.degrees()[ids]
        rowptr = pointers_of(counts)
        offsets = torch.repeat_interleave(self.rowptr[:-1][ids] - rowptr[:-1], counts)
        edges = offsets + torch.arange(len(offsets), device=offsets.device)
        return Sparse(
            rowptr,
            self.col[edges],
            (len(ids), self.shape[1]),
            values=None if self.values is None else self.values[edges],
            left=self.left[ids],
            right=self.right,
        )

    def to(self, device: torch.device | str) -> Sparse:
        if self.col.device == torch.device(device):
            return self
        same = self.left is self.right
        left = self.left.to(device)
        return Sparse(
            self.rowptr.to(device),
            self.col.to(device),
            self.shape,
            values=None if self.values is None else self.values.to(device),
            left=left,
            right=left if same else self.right.to(device),
            symmetric=self.symmetric,
        )

    def __matmul__(self, x: Tensor) -> Tensor:
        return _Product.apply(self, x, None, 0.0, 0)

    def noisy(self, x: Tensor, eps: float, key: int) -> Tensor:
        """``y = self @ x`` with every row of y moved by ``eps`` inside its orthant, in one pass (CPU only).

        The move is a constant for the gradient, as ``sign`` has none.
        """
        return _Product.apply(self, x, None, eps, key)

    def _apply(self, x: Tensor, ids: Tensor | None, eps: float, key: int) -> Tensor:
        """The product on CPU, of all rows or of ``ids``."""
        if self._chunks is None:
            self._chunks = kernels.equal_chunks(self.rowptr.numpy(), _CHUNKS_PER_THREAD * numba.get_num_threads())
        if ids is None:
            num_rows, chunks, numbers = self.shape[0], self._chunks, self.rowptr[:0].numpy()
        else:
            work = np.concatenate([[0], np.cumsum((self.rowptr[ids + 1] - self.rowptr[ids]).numpy())])
            num_rows, chunks, numbers = (
                len(ids),
                kernels.equal_chunks(work, _CHUNKS_PER_THREAD * numba.get_num_threads()),
                ids.numpy(),
            )
        y = memory.empty(num_rows, x.shape[1], x)
        kernel = kernels.product(x.shape[1], self.values is not None, eps != 0, ids is not None)
        kernel(
            *self._arrays(), numbers, chunks, x.detach().contiguous().numpy(), y.numpy(), y.numpy().dtype.type(eps), *halves(key)
        )
        return y

    def _arrays(self) -> tuple[np.ndarray, ...]:
        values = self.left if self.values is None else self.values
        return self.rowptr.numpy(), self.col.numpy(), values.numpy(), self.left.numpy(), self.right.numpy()

    def _rows_adjoint(self, grad: Tensor, ids: Tensor) -> Tensor:
        """``self.select(ids).T @ grad`` on CPU, without building the transpose."""
        width = grad.shape[1]
        out = memory.empty(self.shape[1], width, grad)
        bounds = np.linspace(0, self.shape[1], 4 * numba.get_num_threads() + 1).astype(np.int64)
        kernel = kernels.rows_adjoint(width, self.values is not None)
        kernel(*self._arrays(), ids.numpy(), bounds, grad.contiguous().numpy(), out.numpy())
        return out

    def _torch_csr(self, dtype: torch.dtype) -> Tensor:
        if len(self.col) > _MOST_ENTRIES:
            raise ValueError(
                f"a matrix of {len(self.col)} entries is too large for torch's CSR, whose row pointers are 32-bit as its columns are"
            )
        if self._csr is None or self._csr.dtype != dtype:
            self._csr = csr_of(self.rowptr.int(), self.col, self.entries().to(dtype), self.shape)
        return self._csr


class SparseRows:
    """Some rows of a sparse operator, which is not copied: a batch reads and writes only the edges of its own rows."""

    def __init__(self, whole: Sparse, ids: Tensor):
        self.whole, self.ids = whole, ids

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.ids), self.whole.shape[1]

    @property
    def T(self) -> Sparse:
        return self.whole.select(self.ids).T

    def rows(self, ids: Tensor) -> SparseRows:
        return SparseRows(self.whole, self.ids[ids.to(self.ids.device)])

    def to(self, device: torch.device | str) -> SparseRows:
        return SparseRows(self.whole.to(device), self.ids.to(device))

    def to_scipy(self) -> sparse.csr_matrix:
        return self.whole.select(self.ids).to_scipy()

    def __matmul__(self, x: Tensor) -> Tensor:
        return _Product.apply(self.whole, x, self.ids, 0.0, 0)

    def adjoint(self, grad: Tensor) -> Tensor:  # [n, d] -> [m, d]
        """``self.T @ grad``, without building the transpose."""
        whole = self.whole
        if grad.device.type == "cpu" and whole._sorted and not torch.is_grad_enabled():
            return whole._rows_adjoint(grad, self.ids)
        # Unsorted columns, another device, or a second derivative is asked for: one row of grad an edge, added where it belongs.
        some = whole.select(self.ids)
        rows = torch.repeat_interleave(torch.arange(len(grad), device=grad.device), some.degrees())
        out, entries = grad.new_zeros((self.shape[1], grad.shape[1])), some.entries().to(grad.dtype)
        for edges in torch.arange(len(rows), device=grad.device).split(_EDGES):
            add = out.index_add if torch.is_grad_enabled() else out.index_add_
            out = add(0, some.col[edges].long(), entries[edges, None] * grad[rows[edges]])
        return out

    def noisy(self, x: Tensor, eps: float, key: int) -> Tensor:
        """The rows of :meth:`Sparse.noisy`: noise depends on a row's number in the whole."""
        return _Product.apply(self.whole, x, self.ids, eps, key)


class _Product(Function):
    @staticmethod
    def forward(ctx, op, x, ids, eps, key):
        ctx.op, ctx.ids = op, ids
        if x.ndim != 2 or x.shape[0] != op.shape[1]:
            raise ValueError(f"a table of {op.shape[1]} rows is needed, got {tuple(x.shape)}")
        if x.device.type == "cpu":
            if x.dtype not in (torch.float32, torch.float64):
                raise ValueError(f"a table of float32 or float64 is needed, got {x.dtype}")
            return op._apply(x, ids, eps, key)
        if eps:
            raise ValueError(f"noise is fused on CPU only, not on {x.device}; SignNoise.after works on any device")
        if not x.is_floating_point():
            raise ValueError(f"a table of floats is needed, got {x.dtype}")
        return (op if ids is None else op.select(ids))._torch_csr(x.dtype) @ x

    @staticmethod
    def backward(ctx, grad):
        op, ids = ctx.op, ctx.ids
        if not ctx.needs_input_grad[1]:
            return None, None, None, None, None
        back = op.T @ grad if ids is None else SparseRows(op, ids).adjoint(grad)
        return None, back, None, None, None


def csr_tensor(matrix: sparse.csr_matrix) -> Tensor:
    """A SciPy matrix as torch's sparse CSR, which objectives take for positives."""
    pointers, columns = (torch.from_numpy(each.astype(np.int64)) for each in (matrix.indptr, matrix.indices))
    return csr_of(pointers, columns, torch.from_numpy(matrix.data), matrix.shape)


def csr_of(pointers: Tensor, columns: Tensor, values: Tensor, size: tuple[int, ...]) -> Tensor:
    """torch's sparse CSR of parts that fit, without its word, at the first one, that CSR is in beta."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(pointers, columns, values, size=size, check_invariants=False)
