"""Item nearest neighbours: an item scores the similarities of its nearest items that stand in the history, added up.

Similarity is the cosine of two items' columns of the 0/1 matrix, shrunk when few users stand behind it:
c_ij / (sqrt(d_i d_j) + shrink), c_ij the users of both, d_i the users of i. Each *scored* item keeps its own ``neighbours``
most similar items (columns of the similarity matrix are cut, not rows), as in Ferrari Dacrema et al.

Paper: Sarwar et al., "Item-based collaborative filtering recommendation algorithms", WWW 2001; shrinkage and cut after Ferrari
Dacrema et al., "Are we really making much progress?", RecSys 2019.
Departs: among equally similar items the lower row is kept. Similarities are computed a block of items at a time and only the
neighbours are stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphcl.interactions import Interactions
from graphcl.ops.products import times_sparse
from graphcl.rank import history_rows, top_k

KIND = "general"


@dataclass(frozen=True)
class Config:
    neighbours: int = 100  # items kept for each item
    shrink: float = 10.0  # added to the denominator: larger trusts pairs with few common users less

    def __post_init__(self) -> None:
        if self.neighbours < 1 or not self.shrink >= 0:
            raise ValueError(f"neighbours must be at least 1 and shrink at least 0, got {self.neighbours} and {self.shrink}")


# Best NDCG@20 on validation among 20, 100, 500 neighbours and shrink 0, 10, 50.
PRESETS: dict[str, dict] = {
    "general/gowalla": {"neighbours": 100, "shrink": 50.0},
    "general/yelp2018": {"neighbours": 500, "shrink": 10.0},
}
SPACE: dict[str, tuple | list] = {"neighbours": (10, 1000, "log"), "shrink": (0.0, 100.0)}


class ItemNeighbours:
    """Scores a history by the sparse item-item matrix."""

    def __init__(self, train: sparse.csr_matrix, weights: sparse.csr_matrix) -> None:
        self.train, self.weights = train, weights  # [U, I]; [I, I], row: item of the history, column: item scored
        self.num_items = weights.shape[1]

    def score(self, users: Tensor | sparse.csr_matrix) -> Tensor:  # [b, I]
        return torch.from_numpy(times_sparse(history_rows(users, self.train), self.weights))

    def state(self) -> dict[str, Tensor]:
        return {name: torch.from_numpy(getattr(self.weights, name)) for name in ("indptr", "indices", "data")}


class _Cosine:
    """Similarities of some items to all: what is ranked to find neighbours."""

    def __init__(self, train: sparse.csr_matrix, shrink: float) -> None:
        self.train, self.users, self.shrink = train, train.T.tocsr(), shrink
        self.norms = np.sqrt(np.diff(self.users.indptr)).astype(np.float32)
        self.num_items = train.shape[1]

    def score(self, items: Tensor) -> Tensor:  # [b, I]
        rows = items.numpy()
        common = times_sparse(self.users[rows], self.train)
        scale = self.norms[rows, None] * self.norms + np.float32(self.shrink)
        with np.errstate(invalid="ignore"):  # 0 / 0 where neither item has a user
            similarity = common / scale
        similarity[common == 0] = -np.inf  # nobody in common: not a neighbour
        return torch.from_numpy(similarity)


def build(config: Config, data: Interactions, *, rng: torch.Generator | None = None) -> ItemNeighbours:
    num = data.num_items
    kept = min(config.neighbours, num)
    itself = sparse.identity(num, dtype=np.float32, format="csr")
    items, similarity = top_k(_Cosine(data.matrix, config.shrink), np.arange(num), kept, seen=itself)
    found = items >= 0
    scored = np.repeat(np.arange(num), found.sum(1))
    weights = sparse.csr_matrix((similarity[found], (items[found], scored)), shape=(num, num), dtype=np.float32)
    return ItemNeighbours(data.matrix, weights)


def restore(config: Config, data: Interactions, state: dict[str, Tensor]) -> ItemNeighbours:
    parts = tuple(state[name].numpy() for name in ("data", "indices", "indptr"))
    return ItemNeighbours(data.matrix, sparse.csr_matrix(parts, shape=(data.num_items, data.num_items)))
