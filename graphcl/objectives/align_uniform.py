"""The two halves of a contrastive loss, each on its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from graphcl.contracts import Pair
from graphcl.objectives.log_sum_exp import log_sum_exp
from graphcl.objectives.rows import check_temperature, positive_keys, row_weights, weighted_mean
from graphcl.ops import unit_rows


def alignment(x: Tensor, y: Tensor, power: float = 2, weights: Tensor | None = None) -> Tensor:
    """``mean |x^ - y^|^power`` over rows [n, d] of unit length, by ``weights`` [n]; 0 when positives coincide."""
    apart = (unit_rows(x) - unit_rows(y)).norm(dim=1).pow(power)
    return apart.mean() if weights is None else weighted_mean(apart, weights)


def uniformity(x: Tensor, t: float = 2, tile_entries: int = 2**20) -> Tensor:
    """``log mean_{i != j} exp(-t |x_i^ - x_j^|^2)`` over rows [n, d] of unit length; at its lowest on an even sphere.

    By tiles, of ``tile_entries`` pairs.
    """
    x = unit_rows(x)
    n = len(x)
    if n < 2:
        raise ValueError(f"uniformity needs at least two rows, got {n}")
    lengths = t * x.detach().square().sum(1)  # t, but 0 for a zero row; a constant of either
    own = torch.arange(n, device=x.device)
    lse = log_sum_exp(x, x, 1 / (2 * t), tile_entries=tile_entries, bias=-lengths, banned=(own, own))
    return (lse - lengths).logsumexp(0) - math.log(n * (n - 1))


@dataclass(frozen=True)
class AlignUniform:
    """``alignment + gamma (uniformity(queries) + uniformity(keys)) / 2``, with the positives as keys.

    A key that is the positive of several queries stands once in the uniformity, or it would push itself away. Queries have no ids: the
    caller gives each once, with ``pair.weights`` for how often it counts, which is in the alignment.

    Raises:
        ValueError: a setting outside its range; sparse positives, or fewer than two queries or different keys, at the call.

    Source: Wang and Isola, ICML 2020; as a recommendation loss: DirectAU, KDD 2022, THUwangcy/DirectAU@60c964b (gamma 1, tuned).
    Departs: DirectAU leaves repeated users and items of a batch in the uniformity.
    """

    gamma: float = 1.0
    t: float = 2.0

    def __post_init__(self) -> None:
        if not self.gamma >= 0:
            raise ValueError(f"gamma is a weight and must be 0 or more, got {self.gamma}")
        check_temperature(self.t, "t")

    def __call__(self, pair: Pair) -> Tensor:
        keys = positive_keys(pair, "AlignUniform")
        ids, order = pair.positives.sort()
        each = order[ids.diff(prepend=ids.new_tensor([-1])) > 0]
        spread = uniformity(pair.query, self.t) + uniformity(keys[each], self.t)
        return alignment(pair.query, keys, weights=row_weights(pair)) + self.gamma * spread / 2
