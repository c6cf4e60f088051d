"""XSimGCF: XSimGCL's embeddings beside a closed-form scorer that remembers which items go together.

Embeddings of d numbers are a low-rank view of the log: they generalise, and lose the exact co-occurrences of rare items. Closed forms
over items keep those and know little else. Their errors differ, so the sum of both ranks better than either:

    score(u, i) = <u, i> / std_i <u, .> + beside_weight * c(u, i) / std_i c(u, .)

with c the score of graph filters (BSPM's, sharpened; or GF-CF's) or of EASE, and each score in units of its standard deviation over the
user's items, which makes the weight a number without a unit. Sharpening takes popularity out of c, which the embeddings know already:
better on validation parts drawn at random and on the test part of Yelp2018, worse on that of Gowalla, so that GF-CF's is the default.
The embeddings are trained, and the epoch is chosen, as XSimGCL's: c is there at ranking only.

Of this project; no paper. Parts: ``xsimgcl``, ``bspm``, ``gfcf``, ``ease``.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import torch
from scipy import sparse
from torch import Tensor

from graphcl.contracts import Scorer
from graphcl.interactions import Interactions
from graphcl.recipes import bspm, ease, gfcf, xsimgcl

KIND = "general"


@dataclass(frozen=True)
class Config(xsimgcl.Config):
    beside: Literal["bspm", "gfcf", "ease"] = "gfcf"
    beside_weight: float = 0.25  # of its score, in standard deviations; 0: XSimGCL
    l2: float = 500.0  # EASE's
    factors: int = 256  # of the filters' low-pass term
    alpha: float = 0.0  # weight of that term: the embeddings take its place
    sharpen: float = 0.9  # BSPM's time, in one Euler step: c = h (P - sharpen * P^2)

    def __post_init__(self) -> None:
        if not self.beside_weight >= 0:
            raise ValueError(f"beside_weight must be 0 or more, got {self.beside_weight}")
        _closed(self)  # refused now, not after training


def _closed(config: Config) -> tuple[ModuleType, Any]:
    """The closed form's recipe and its settings."""
    if config.beside == "ease":
        return ease, ease.Config(l2=config.l2)
    if config.beside == "gfcf":
        return gfcf, gfcf.Config(factors=config.factors, alpha=config.alpha)
    if config.beside == "bspm":
        return bspm, bspm.Config(factors=config.factors, alpha=config.alpha, sharpen=config.sharpen, solver="euler")
    raise ValueError(f"beside must be bspm, gfcf or ease, got {config.beside!r}")


PRESETS: dict[str, dict] = {}
SPACE: dict[str, tuple | list] = {**xsimgcl.SPACE, "beside_weight": (0.05, 2.0, "log")}

build = xsimgcl.build


def scorer(config: Config, data: Interactions, learned: Scorer) -> Scorer:
    if config.beside_weight == 0:
        return learned
    closed, settings = _closed(config)
    return Beside(learned, closed.build(settings, data), config.beside_weight)


class Beside:
    """The sum of two scorers, each in units of its standard deviation over a user's items."""

    def __init__(self, first: Scorer, second: Scorer, weight: float) -> None:
        self.first, self.second, self.weight = first, second, weight
        self.num_items = first.num_items

    @torch.no_grad()
    def score(self, users: Tensor | sparse.csr_matrix) -> Tensor:  # [b, I]
        first = self.first.score(users)
        return _scaled(first).add_(_scaled(self.second.score(users)).to(first), alpha=self.weight)


def _scaled(scores: Tensor) -> Tensor:  # [b, I]
    """In units of the row's standard deviation; a row of one value becomes zero, for it ranks nothing; NaN stays."""
    spread = scores.std(1, correction=0, keepdim=True)
    return torch.where(spread == 0, 0.0, scores / spread.clamp_min(torch.finfo(scores.dtype).tiny))
