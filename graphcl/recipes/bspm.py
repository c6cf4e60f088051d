"""BSPM: graph filters blur a history, and then what is common to all is taken out of it again.

With R~ = D_u^-1/2 R D_i^-1/2, P = R~^T R~ and V_k its first k eigenvectors, a history h (0/1) is blurred to

    near = h P,    low = alpha * h D_i^-1/2 V_k V_k^T D_i^1/2

and sharpened: r follows dr/dt = -r P from t = 0 to ``sharpen``, which shrinks an eigenvector the more the larger its eigenvalue is, so
most of all the direction of popularity. What is sharpened is near + low ("early" merging) or near alone, to which low is added
afterwards ("late").

Paper: Choi et al., "Blurring-sharpening process models for collaborative filtering", SIGIR 2023.
Checked against: jeongwhanchoi/BSPM@1293201 (its README has the settings by data set; alpha, there beta, is .3 where none is given).
Departs: the equation is linear, so a step of either solver is its polynomial in P; the release calls an ODE library. One blurring step
of length 1, as in all its settings, so that blurring needs no solver. The solver is RK4 where none is given, there Euler's. Singular
vectors of singular value 0 are left out, see `gfcf`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from scipy import sparse
from torch import Tensor
from torch.nn import functional

from graphcl.interactions import Interactions
from graphcl.ops.sparse import Sparse
from graphcl.rank import history_rows
from graphcl.recipes.gfcf import GraphFilters, right_factors

KIND = "general"
WIDTH = 64  # users whose scores go through the graph together
ORDERS = {"euler": 1, "rk4": 4}  # of a step's Taylor polynomial: that of exp(-P dt), as the equation is linear


@dataclass(frozen=True)
class Config:
    factors: int = 256  # k; more than the matrix has are left out
    alpha: float = 0.3  # beta: weight of the low-pass term; 0 skips the decomposition
    sharpen: float = 1.0  # T_s, for how long; 0: GF-CF
    steps: int = 1  # K_s: of the solver in that time
    solver: Literal["euler", "rk4"] = "rk4"  # a step of Euler's of length 1 forgets eigenvalue 1, which each connected part has
    merge: Literal["early", "late"] = "early"
    average: bool = False  # rank by the mean of near and the sharpened, instead of the sharpened alone

    def __post_init__(self) -> None:
        if self.factors < 1 or self.steps < 1:
            raise ValueError(f"factors and steps must be at least 1, got {self.factors} and {self.steps}")
        for key in ("alpha", "sharpen"):
            if not 0 <= getattr(self, key) < float("inf"):
                raise ValueError(f"{key} must be 0 or more, and finite; got {getattr(self, key)}")
        if self.solver not in ORDERS:
            raise ValueError(f"solver must be euler or rk4, got {self.solver!r}")
        if self.merge not in ("early", "late"):
            raise ValueError(f"merge must be early or late, got {self.merge!r}")


PRESETS: dict[str, dict] = {
    "general/gowalla": {"factors": 448, "alpha": 0.2, "sharpen": 2.5, "solver": "rk4"},
    "general/yelp2018": {"factors": 384, "sharpen": 1.2, "solver": "euler", "average": True},
    "general/amazon-book": {"alpha": 0.0, "sharpen": 2.2, "steps": 2, "solver": "rk4"},
}
SPACE: dict[str, tuple | list] = {"factors": (32, 512, "log"), "alpha": (0.0, 1.0), "sharpen": (0.0, 3.0)}


class BlurSharpen:
    """Scores a history by both processes."""

    def __init__(self, train: sparse.csr_matrix, factors: Tensor, config: Config) -> None:
        self.blur, self.config = GraphFilters(train, factors, config.alpha), config  # train: [U, I]; factors: V_k [I, k] float32
        self.num_items = self.blur.num_items
        pattern = Sparse.from_scipy(train.astype(np.float32))
        left, right = (inverse_root(each.degrees()) for each in (pattern, pattern.T))
        self.normal = pattern.scaled(left, right)  # R~

    def score(self, users: Tensor | sparse.csr_matrix) -> Tensor:  # [b, I]
        histories = history_rows(users, self.blur.train)
        near, early = self.blur.near(histories), self.config.merge == "early"
        start = near.clone() if self.config.average else near
        sharp = self._sharpened(self.blur.add_low(start, histories) if early else start)
        if self.config.average:
            sharp = sharp.add_(near).div_(2)
        return sharp if early else self.blur.add_low(sharp, histories)

    def state(self) -> dict[str, Tensor]:
        return self.blur.state()

    def _sharpened(self, scores: Tensor) -> Tensor:  # [b, I]
        out = torch.empty_like(scores)
        for some, into in zip(scores.split(WIDTH), out.split(WIDTH), strict=True):
            whole = functional.pad(some, (0, 0, 0, WIDTH - len(some)))  # the product is compiled for each width
            into.copy_(self._solved(whole.T.contiguous()).T[: len(some)])
        return out

    def _solved(self, r: Tensor) -> Tensor:  # [I, WIDTH]
        """dr/dt = -P r, from 0 to the end."""
        length = self.config.sharpen / self.config.steps
        for _ in range(self.config.steps):
            term = r
            for j in range(1, ORDERS[self.config.solver] + 1):
                term = (self.normal.T @ (self.normal @ term)).mul_(-length / j)
                r = r + term
        return r


def inverse_root(degree: Tensor) -> Tensor:
    return torch.where(degree > 0, degree.clamp_min(1) ** -0.5, 0.0)


def build(config: Config, data: Interactions, *, rng: torch.Generator | None = None) -> BlurSharpen:
    return BlurSharpen(data.matrix, right_factors(data.matrix, config.factors if config.alpha else 0), config)


def restore(config: Config, data: Interactions, state: dict[str, Tensor]) -> BlurSharpen:
    return BlurSharpen(data.matrix, state["factors"], config)
