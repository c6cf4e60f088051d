"""EASE: a linear item-item model in closed form, with nothing on its diagonal.

With G = X^T X of the 0/1 matrix and P = (G + l2 I)^-1, the weights are B_ij = -P_ij / P_jj, B_jj = 0, and a history scores h B.

Paper: Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019.
Departs: float32 throughout. G is built, factored, inverted and turned into B in one [I, I] array, so the peak is I * I * 4 bytes
(6 GB at 38,000 items) beside what LAPACK needs. Time is about I^3 operations.

``l2`` matters more than anything else here and depends on the data: choose it on validation. The default is a middle value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import torch
from scipy import sparse
from scipy.linalg import lapack
from torch import Tensor

from graphcl.interactions import Interactions
from graphcl.rank import history_rows
from graphcl.recipes.products import times_dense, times_sparse

KIND = "general"


@dataclass(frozen=True)
class Config:
    l2: float = 500.0  # lambda, in interactions: it stands beside item degrees on the diagonal of G

    def __post_init__(self) -> None:
        if not self.l2 > 0:
            raise ValueError(f"l2 must be positive, or G cannot be inverted; got {self.l2}")


PRESETS: dict[str, dict] = {}


class Ease:
    """Scores a history by the dense item-item matrix."""

    def __init__(self, train: sparse.csr_matrix, weights: np.ndarray) -> None:
        self.train, self.weights = train, weights  # [U, I]; [I, I] float32, row: item of the history, column: item scored
        self.num_items = weights.shape[1]

    def score(self, users: Tensor | sparse.csr_matrix) -> Tensor:  # [b, I]
        return torch.from_numpy(times_dense(history_rows(users, self.train), self.weights))

    def state(self) -> dict[str, Tensor]:
        return {"weights": torch.from_numpy(self.weights)}


def build(config: Config, data: Interactions, *, rng: torch.Generator | None = None) -> Ease:
    """**Raises** ValueError when ``l2`` is too small for a float32 factorisation."""
    num = data.num_items
    array = np.empty((num, num), dtype=np.float32)
    times_sparse(data.matrix.T.tocsr(), data.matrix, out=array)  # G
    array[np.diag_indices(num)] += config.l2
    # LAPACK wants columns: the transpose is a view, and its lower triangle is the upper one of ``array``.
    factor, failed = lapack.spotrf(array.T, lower=1, clean=0, overwrite_a=1)
    if not failed:
        inverse, failed = lapack.spotri(factor, lower=1, overwrite_c=1)
    if failed:
        raise ValueError(f"G + {config.l2} I is not positive definite in float32: raise l2")
    assert np.shares_memory(inverse, array)
    _weights_in_place(array, array.diagonal().copy())
    return Ease(data.matrix, array)


def restore(config: Config, data: Interactions, state: dict[str, Tensor]) -> Ease:
    return Ease(data.matrix, state["weights"].numpy())


@numba.njit(parallel=True, cache=True)
def _weights_in_place(array, diagonal):  # type: ignore[no-untyped-def]
    """P, of which the upper triangle is filled, becomes B. By tiles, because half of the writes run down columns."""
    num, tile = len(array), 64
    tiles = (num + tile - 1) // tile
    for t in numba.prange(tiles):
        for u in range(t, tiles):
            for i in range(t * tile, min((t + 1) * tile, num)):
                for j in range(max(u * tile, i), min((u + 1) * tile, num)):
                    entry = array[i, j]
                    array[i, j] = -entry / diagonal[j]
                    array[j, i] = -entry / diagonal[i]
        for i in range(t * tile, min((t + 1) * tile, num)):
            array[i, i] = 0
