"""Random numbers as a function of (key, row, column), so that they can be fused, tiled and repeated.

A 32-bit finaliser (two multiplications, three xor-shifts; constants of C. Wellons' `lowbias32` search) is applied to the row,
and again to the row's hash plus the column times the golden ratio. The same arithmetic stands below twice, for numba and
for torch; a test holds them equal bit for bit.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
from torch import Tensor

_M1, _M2, _GOLDEN = 0x7FEB352D, 0x846CA68B, 0x9E3779B9
_MASK = 0xFFFFFFFF
UNIT = 2.0**-24  # 24 random bits fill a float32's mantissa


def draw_key(rng: torch.Generator) -> int:
    """One 62-bit key; whatever is drawn with it leaves ``rng`` alone."""
    return int(torch.randint(0, 2**62, (), generator=rng, device=rng.device))


# numba widens uint32 arithmetic to 64 bits, hence the casts: they keep the loops in 32-bit vector lanes.
@numba.njit(inline="always", cache=True)
def mix(h):  # uint32 -> uint32
    h = np.uint32(h ^ (h >> np.uint32(16)))
    h = np.uint32(h * np.uint32(_M1))
    h = np.uint32(h ^ (h >> np.uint32(15)))
    h = np.uint32(h * np.uint32(_M2))
    return np.uint32(h ^ (h >> np.uint32(16)))


@numba.njit(inline="always", cache=True)
def row_state(low, high, row):  # key halves, row number -> uint32
    folded = np.uint32(np.uint32(row) ^ np.uint32(np.uint32(row >> 32) * np.uint32(_M1)))
    return mix(np.uint32(mix(np.uint32(folded ^ low)) ^ high))


@numba.njit(inline="always", cache=True)
def column_bits(state, column):  # -> uint32
    return mix(np.uint32(state + np.uint32(np.uint32(column) * np.uint32(_GOLDEN))))


@numba.njit(inline="always", cache=True)
def below(state, column, limit):
    """A whole number, uniform in 0 .. limit - 1, from 32 random bits."""
    return np.int64((np.uint64(column_bits(state, column)) * np.uint64(limit)) >> np.uint64(32))


def halves(key: int) -> tuple[np.uint32, np.uint32]:
    return np.uint32(key & _MASK), np.uint32(key >> 32)


def _mix(h: Tensor) -> Tensor:
    h = h ^ (h >> 16)
    h = (h * _M1) & _MASK
    h = h ^ (h >> 15)
    h = (h * _M2) & _MASK
    return h ^ (h >> 16)


def uniform(key: int, rows: Tensor, num_columns: int = 1) -> Tensor:
    """U[0, 1) as float32 [n, num_columns] for int64 row numbers [n]; any device."""
    folded = (rows & _MASK) ^ (((rows >> 32) * _M1) & _MASK)
    state = _mix(_mix(folded ^ (key & _MASK)) ^ (key >> 32))
    columns = torch.arange(num_columns, device=rows.device) * _GOLDEN
    return (_mix((state[:, None] + columns) & _MASK) >> 8).float() * UNIT
