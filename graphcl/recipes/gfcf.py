"""GF-CF: two graph filters and no training, one that looks at neighbours and one that keeps low frequencies.

With R~ = D_u^-1/2 R D_i^-1/2 and V_k its first k right singular vectors, a history h (0/1, not normalised) scores
h R~^T R~ + alpha * h D_i^-1/2 V_k V_k^T D_i^1/2.

Paper: Shen et al., "How powerful is graph convolution for recommendation?", CIKM 2021.
Checked against: yshenaw/GF_CF@0f56771 (k = 256, alpha = 0.3).
Departs: R~^T R~ is never formed, each history goes through R~^T and R~ in turn. Degrees of 0 give 0 in D^-1/2 and D^1/2,
where the release divides by 0. Singular vectors of singular value 0 are left out: which ones a solver returns is arbitrary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphcl.interactions import Interactions
from graphcl.ops.products import times_dense, times_sparse_twice
from graphcl.ops.sparse import Sparse
from graphcl.ops.svd import truncated_svd
from graphcl.rank import history_rows

KIND = "general"


@dataclass(frozen=True)
class Config:
    factors: int = 256  # k; more than the matrix has are left out
    alpha: float = 0.3  # weight of the low-pass term; 0 skips the decomposition (the paper's choice on Amazon-Book)

    def __post_init__(self) -> None:
        if self.factors < 1 or not self.alpha >= 0:
            raise ValueError(f"factors must be at least 1 and alpha at least 0, got {self.factors} and {self.alpha}")


PRESETS: dict[str, dict] = {}
SPACE: dict[str, tuple | list] = {"factors": (32, 512, "log"), "alpha": (0.0, 1.0)}


class GraphFilters:
    """Scores a history by both filters."""

    def __init__(self, train: sparse.csr_matrix, factors: Tensor, alpha: float) -> None:
        self.train, self.factors = train, factors  # [U, I]; V_k [I, k] float32
        self.num_items = train.shape[1]
        self.normal = normalised(train)  # R~
        self.back = self.normal.T.tocsr()
        root = np.sqrt(np.diff(self.back.indptr)).astype(np.float32)[:, None]  # D_i^1/2
        self.into = np.divide(factors.numpy(), root, out=np.zeros_like(factors.numpy()), where=root > 0)
        self.out_of = (factors * torch.from_numpy(alpha * root)).T.contiguous()  # [k, I]

    def score(self, users: Tensor | sparse.csr_matrix) -> Tensor:  # [b, I]
        histories = history_rows(users, self.train)
        return self.add_low(self.near(histories), histories)

    def near(self, histories: sparse.csr_matrix) -> Tensor:  # [b, I]
        return torch.from_numpy(times_sparse_twice(histories, self.back, self.normal))

    def add_low(self, scores: Tensor, histories: sparse.csr_matrix) -> Tensor:  # [b, I], in place
        return scores.addmm_(torch.from_numpy(times_dense(histories, self.into)), self.out_of)

    def state(self) -> dict[str, Tensor]:
        return {"factors": self.factors}


def build(config: Config, data: Interactions, *, rng: torch.Generator | None = None) -> GraphFilters:
    return GraphFilters(data.matrix, right_factors(data.matrix, config.factors if config.alpha else 0), config.alpha)


def restore(config: Config, data: Interactions, state: dict[str, Tensor]) -> GraphFilters:
    return GraphFilters(data.matrix, state["factors"], config.alpha)


def normalised(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """R~ = D_u^-1/2 R D_i^-1/2 of a 0/1 matrix, float32, rows sorted."""
    by_user = np.diff(matrix.indptr)
    by_item = np.bincount(matrix.indices, minlength=matrix.shape[1])
    rows = np.repeat(np.arange(matrix.shape[0]), by_user)
    data = 1 / np.sqrt(by_user[rows] * by_item[matrix.indices].astype(np.float64))  # degrees of 0 have no entries
    return sparse.csr_matrix((data.astype(np.float32), matrix.indices, matrix.indptr), shape=matrix.shape)


def right_factors(matrix: sparse.csr_matrix, num: int) -> Tensor:
    """The first ``num`` right singular vectors of R~, [I, k], less those of singular value 0."""
    if num == 0:
        return torch.zeros(matrix.shape[1], 0)
    found = truncated_svd(Sparse.from_scipy(normalised(matrix)), min(num, *matrix.shape))
    return found.v[:, found.s > 1e-6 * found.s[0]].contiguous()
