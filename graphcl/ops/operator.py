"""What encoders and views propagate through: anything that multiplies a table of rows."""

from __future__ import annotations

from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Operator(Protocol):
    """A linear map of node tables, known by what it does. Never densifies.

    Contract, tested for each: equal to its dense matrix, ``<A x, y> == <x, A.T y>``, gradients with respect to ``x``,
    ``rows(ids) @ x == (A @ x)[ids]``.
    """

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def T(self) -> Operator: ...

    def __matmul__(self, x: Tensor) -> Tensor: ...  # [n, m] @ [m, d] -> [n, d]

    def rows(self, ids: Tensor) -> Operator: ...

    def to(self, device: torch.device | str) -> Operator: ...


class LowRank:
    """``left @ right.T``, for instance a truncated SVD; a product costs O(rank (n + m) d)."""

    def __init__(
        self,
        left: Tensor,  # [n, rank]
        right: Tensor,  # [m, rank]
    ):
        if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
            raise ValueError(f"two matrices of the same rank are needed, got {tuple(left.shape)} and {tuple(right.shape)}")
        self.left, self.right = left, right

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.left), len(self.right)

    @property
    def T(self) -> LowRank:
        return LowRank(self.right, self.left)

    def __matmul__(self, x: Tensor) -> Tensor:
        if x.ndim != 2 or len(x) != len(self.right):
            raise ValueError(f"a table of {len(self.right)} rows is needed, got {tuple(x.shape)}")
        return self.left @ (self.right.T @ x)

    def rows(self, ids: Tensor) -> LowRank:
        return LowRank(self.left[ids], self.right)

    def to(self, device: torch.device | str) -> LowRank:
        return LowRank(self.left.to(device), self.right.to(device))


class Product:
    """``first @ second @ ...``, applied from the right and never multiplied out."""

    def __init__(self, *factors: Operator):
        if not factors:
            raise ValueError("a product needs at least one operator")
        for a, b in pairwise(factors):
            if a.shape[1] != b.shape[0]:
                raise ValueError(f"shapes {a.shape} and {b.shape} do not chain")
        self.factors = factors

    @property
    def shape(self) -> tuple[int, int]:
        return self.factors[0].shape[0], self.factors[-1].shape[1]

    @property
    def T(self) -> Product:
        return Product(*(f.T for f in reversed(self.factors)))

    def __matmul__(self, x: Tensor) -> Tensor:
        for factor in reversed(self.factors):
            x = factor @ x
        return x

    def rows(self, ids: Tensor) -> Product:
        return Product(self.factors[0].rows(ids), *self.factors[1:])

    def to(self, device: torch.device | str) -> Product:
        return Product(*(f.to(device) for f in self.factors))


class Mean:
    """The average of several operators of one shape."""

    def __init__(self, *terms: Operator):
        if not terms:
            raise ValueError("a mean needs at least one operator")
        if len({t.shape for t in terms}) > 1:
            raise ValueError(f"a mean needs operators of one shape, got {[t.shape for t in terms]}")
        self.terms = terms

    @property
    def shape(self) -> tuple[int, int]:
        return self.terms[0].shape

    @property
    def T(self) -> Mean:
        return Mean(*(t.T for t in self.terms))

    def __matmul__(self, x: Tensor) -> Tensor:
        total = self.terms[0] @ x
        for term in self.terms[1:]:
            total = total + term @ x
        return total / len(self.terms)

    def rows(self, ids: Tensor) -> Mean:
        return Mean(*(t.rows(ids) for t in self.terms))

    def to(self, device: torch.device | str) -> Mean:
        return Mean(*(t.to(device) for t in self.terms))
