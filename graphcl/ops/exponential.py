"""Exponentials of a tile of logits [m, n] with the sum of each column: what a softmax over m keys costs beside its products.

    x[j, i] <- exp(x[j, i] - top[i]),   total[i] = sum_j x[j, i],   top[i] = max_j x[j, i] unless given

One pass reads for the maxima and one reads and writes, 12 bytes an entry. Anchors are columns because matrix products run half as
fast again on tiles that way round. The kernel's exponential is Cephes' (S. Moshier): x = n log 2 + r, a polynomial of degree 7 in r,
n added to the exponent; relative error below 1e-6 at worst, 1e-7 usually.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

_F, _I = np.float32, np.int32
_LOG2E, _HIGH, _LOW = _F(1.44269504), _F(0.693359375), _F(-2.12194440e-4)  # log 2 = _HIGH + _LOW
_P2, _P3, _P4 = _F(5.0000001201e-1), _F(1.6666665459e-1), _F(4.1665795894e-2)
_P5, _P6, _P7 = _F(8.3334519073e-3), _F(1.3981999507e-3), _F(1.9875691500e-4)
_PARTS = 16
_LEAST = _F(-87.0)  # below, the result is no normal number: 0


def exp_columns(x: Tensor, shift: Tensor | None = None) -> tuple[Tensor, Tensor]:  # [m, n], [n] -> [n], [n]
    """Replaces ``x`` in place; gives the shift of each column, its maximum by default, and the sum of its exponentials.

    A column that is -inf throughout has top -inf and total 0. With a given shift entries must not exceed it by more than 80.
    """
    top = (x.amax(0) if len(x) else x.new_full((x.shape[1],), -torch.inf)) if shift is None else shift
    finite = torch.where(top == -torch.inf, 0.0, top)
    if x.device.type == "cpu" and x.dtype == torch.float32 and x.is_contiguous():
        totals = x.new_zeros((_PARTS, x.shape[1]))
        _exp_columns(x.numpy(), finite.numpy(), totals.numpy())
        return top, totals.sum(0)
    return top, x.sub_(finite).exp_().sum(0)


@numba.njit(inline="always", cache=True)
def exp_float32(v):
    """Inside kernels, for v up to 88; exactly 0 below -87."""
    n = np.floor(max(v, _LEAST) * _LOG2E + _F(0.5))
    r = v - n * _HIGH - n * _LOW
    p = ((((_P7 * r + _P6) * r + _P5) * r + _P4) * r + _P3) * r + _P2
    power = _I((_I(n) + _I(127)) << _I(23)).view(np.float32)
    return _F(0) if v < _LEAST else (p * r * r + r + _F(1)) * power


@numba.njit(parallel=True, fastmath={"contract", "nsz", "reassoc", "arcp"}, cache=True, boundscheck=False)
def _exp_columns(x, top, totals):
    """Each part of the rows has sums of its own, so they do not depend on the number of threads."""
    for part in numba.prange(_PARTS):
        added = totals[part]
        for j in range(part * len(x) // _PARTS, (part + 1) * len(x) // _PARTS):
            row = x[j]
            for i in range(row.shape[0]):
                value = exp_float32(row[i] - top[i])
                row[i] = value
                added[i] += value
