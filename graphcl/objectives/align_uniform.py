"""The two halves of a contrastive loss, each on its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from graphcl.contracts import Pair
from graphcl.ops import unit_rows


def alignment(x: Tensor, y: Tensor, power: float = 2) -> Tensor:
    """``mean |x^ - y^|^power`` over rows [n, d] of unit length; 0 when positives coincide."""
    return (unit_rows(x) - unit_rows(y)).norm(dim=1).pow(power).mean()


def uniformity(x: Tensor, t: float = 2, block: int = 2048) -> Tensor:
    """``log mean_{i<j} exp(-t |x_i^ - x_j^|^2)`` over rows [n, d] of unit length; at its lowest on an even sphere.

    Works by blocks of rows: O(n block) memory in the forward.
    """
    x = unit_rows(x)
    n = len(x)
    if n < 2:
        raise ValueError(f"uniformity needs at least two rows, got {n}")
    squares = x.square().sum(1)  # 1, but 0 for a zero row
    parts = []
    for start in range(0, n, block):
        rows = x[start : start + block]
        logits = t * (2 * rows @ x.T - squares[start : start + block, None] - squares)  # -t |a - b|^2
        own = torch.arange(len(rows), device=x.device)
        later = torch.arange(n, device=x.device)[None, :] > (start + own)[:, None]
        parts.append(logits.masked_fill(~later, -torch.inf).flatten().logsumexp(0))
    return torch.stack(parts).logsumexp(0) - torch.tensor(n * (n - 1) / 2, dtype=x.dtype, device=x.device).log()


@dataclass(frozen=True)
class AlignUniform:
    """``alignment + gamma (uniformity(queries) + uniformity(keys)) / 2``, with the positives as keys.

    Source: Wang and Isola, ICML 2020; as a recommendation loss: DirectAU, KDD 2022, THUwangcy/DirectAU@60c964b.
    """

    gamma: float = 1.0
    t: float = 2.0

    def __call__(self, pair: Pair) -> Tensor:
        if pair.positives.layout == torch.sparse_csr:
            raise ValueError("AlignUniform needs one positive a query, got a sparse matrix of them")
        if pair.weights is not None:
            raise ValueError('AlignUniform counts every row once, got weights; give its Contrast rows="positives" or "all"')
        keys = pair.key.at(pair.positives)
        return alignment(pair.query, keys) + self.gamma * (uniformity(pair.query, self.t) + uniformity(keys, self.t)) / 2
