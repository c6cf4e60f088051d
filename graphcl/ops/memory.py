"""Tables that are made anew at every step, in memory that is used again.

A table of a few megabytes or more comes from the system as untouched pages, and touching them costs as much as writing the table
twice. A table from here goes back, when the last tensor over it dies, to the next one of its size. NumPy allocates it because
NumPy asks for huge pages, without which random rows of a large table miss the processor's page cache.
"""

from __future__ import annotations

import threading
import weakref

import numpy as np
import torch
from torch import Tensor

_LEAST = 2**20  # bytes; the system's allocator keeps smaller ones itself
_LINE = 64  # bytes of a cache line: a row of 64 floats that starts within one touches five lines instead of four
_KEPT = 4  # free tables at most: the layers of a step and its gradient

_free: list[np.ndarray] = []  # flat bytes, the one freed last at the end
_lock = threading.RLock()  # one that lets its holder in again: a table may die at any allocation


def empty(num_rows: int, width: int, like: Tensor) -> Tensor:  # [num_rows, width]
    """An unfilled table of the dtype and device of ``like``; on CPU from what earlier ones left."""
    size = num_rows * width * like.element_size()
    if like.device.type != "cpu" or size < _LEAST:
        return like.new_empty((num_rows, width))
    memory = _taken(size)
    lent = memory[:]  # torch holds this view as long as any tensor stands on it
    weakref.finalize(lent, _give_back, memory).atexit = False
    return torch.from_numpy(lent).view(like.dtype).view(num_rows, width)


def _taken(size: int) -> np.ndarray:
    with _lock:
        kept = _free[:]
        for memory in reversed(kept):
            if len(memory) == size:
                _free[:] = [each for each in _free if each is not memory]
                return memory
    return _aligned(size)


def _aligned(size: int) -> np.ndarray:
    whole = np.empty(size + _LINE, dtype=np.uint8)
    first = -whole.ctypes.data % _LINE
    return whole[first : first + size]


def _give_back(memory: np.ndarray) -> None:
    with _lock:
        _free.append(memory)
        del _free[:-_KEPT]
