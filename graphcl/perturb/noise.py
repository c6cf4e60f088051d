"""Noise on a layer's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from graphcl.ops import Operator, Sparse, SparseRows, draw_key, uniform, unit_rows


@dataclass(frozen=True)
class SignNoise:
    """Moves each row by exactly ``eps`` (Euclidean) inside its own orthant: ``h + eps * sign(h) * u / |u|``, u ~ U(0, 1)^d.

    A zero entry stays zero. Draws are a function of one key and the row's number.

    Source: SimGCL, Yu et al., SIGIR 2022; XSimGCL, TKDE 2023. Coder-Yu/SELFRec@5b02294.
    Departs: the released code draws from the device's global generator.
    """

    eps: float
    constant: ClassVar[bool] = True  # for the gradient

    def __post_init__(self) -> None:
        if not self.eps >= 0:
            raise ValueError(f"eps must be 0 or more, got {self.eps}")

    def __call__(self, h: Tensor, rng: torch.Generator) -> Tensor:
        return self._move(h, draw_key(rng))

    def after(self, op: Operator, x: Tensor, rng: torch.Generator, rows: Tensor | None = None) -> Tensor:
        key = draw_key(rng)
        if isinstance(op, Sparse | SparseRows) and x.device.type == "cpu" and self.eps > 0:
            return op.noisy(x, self.eps, key)
        return self._move(op @ x, key, rows)

    def _move(self, h: Tensor, key: int, rows: Tensor | None = None) -> Tensor:
        numbers = torch.arange(len(h), device=h.device) if rows is None else rows
        draws = uniform(key, numbers, h.shape[1]).to(h.dtype)
        return h + self.eps * h.detach().sign() * unit_rows(draws)
