"""EASE: a linear item-item model in closed form, with nothing on its diagonal.

With G = X^T X of the 0/1 matrix and P = (G + l2 I)^-1, the weights are B_ij = -P_ij / P_jj, B_jj = 0; a history scores h B.

Paper: Steck, "Embarrassingly shallow autoencoders for sparse data", WWW 2019.
Departs: float32 throughout. G is built, inverted and turned into B in one [I, I] array, so the peak is I * I * 4 bytes (5.8 GB
at 38,000 items) and little more. Inversion takes I^3 operations and goes block by block through matrix products: LAPACK's
in-place Cholesky (``spotrf`` of the OpenBLAS 0.3 in SciPy's wheels) writes past its buffer and crashes at 38,000 rows.

``l2`` matters more than anything else here and depends on the data: choose it on validation. The default is a middle value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphcl.interactions import Interactions
from graphcl.ops.products import times_dense, times_sparse
from graphcl.rank import history_rows

KIND = "general"


@dataclass(frozen=True)
class Config:
    l2: float = 500.0  # lambda, in interactions: it stands beside item degrees on the diagonal of G

    def __post_init__(self) -> None:
        if not self.l2 > 0:
            raise ValueError(f"l2 must be positive, or G cannot be inverted; got {self.l2}")


PRESETS: dict[str, dict] = {}
SPACE: dict[str, tuple | list] = {"l2": (10.0, 5000.0, "log")}


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
    array[np.diag_indices(num)] += np.float32(config.l2)
    if not invert_in_place(torch.from_numpy(array)):
        raise ValueError(f"G + {config.l2} I is not positive definite in float32: raise l2")
    _weights_in_place(array, array.diagonal().copy())
    return Ease(data.matrix, array)


def restore(config: Config, data: Interactions, state: dict[str, Tensor]) -> Ease:
    return Ease(data.matrix, state["weights"].numpy())


def invert_in_place(matrix: Tensor, block: int = 1024) -> bool:
    """A symmetric positive definite matrix [n, n] becomes minus its inverse, of which only the upper triangle is valid.

    False, with the matrix spoilt, when it is not positive definite in its precision.

    The sweep operator (Goodnight, "A tutorial on the SWEEP operator", The American Statistician 1979) on blocks of rows K, all
    others R: A_RR - A_RK D A_KR, D A_KR and -D take the places of A_RR, A_KR and A_KK, where D = A_KK^-1.
    """
    num = len(matrix)
    for start in range(0, num, block):
        stop = min(start + block, num)
        factor, failed = torch.linalg.cholesky_ex(matrix[start:stop, start:stop].double())
        if failed:
            return False
        inverse = torch.cholesky_inverse(factor).to(matrix.dtype)  # D
        rows = torch.cat([matrix[:start, start:stop].T, matrix[start:stop, start:]], dim=1)  # A_K, all columns
        rows[:, start:stop] = 0
        swept = inverse @ rows
        for top in range(0, num, block):
            matrix[top : top + block, top:].addmm_(rows[:, top : top + block].T, swept[:, top:], alpha=-1)
        matrix[:start, start:stop] = swept[:, :start].T
        matrix[start:stop, stop:] = swept[:, stop:]
        matrix[start:stop, start:stop] = -inverse
    return True


@numba.njit(parallel=True, cache=True)
def _weights_in_place(array, diagonal):  # type: ignore[no-untyped-def]
    """-P, of which the upper triangle is filled, becomes B. By tiles, because half of the writes run down columns."""
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
