"""Decoupled hyperspherical energy loss: each view is spread by itself."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from graphcl.contracts import Pair
from graphcl.objectives.log_sum_exp import log_sum_exp
from graphcl.objectives.rows import check_temperature, positive_keys, row_weights, same_ids, weighted_mean
from graphcl.ops import unit_rows


@dataclass(frozen=True)
class DHEL:
    """``mean_i -s(q_i, k_i) / t + log sum_j exp(s(q_i, q_j) / t) + log sum_j exp(s(k_i, k_j) / t)``, cosines, j != i.

    k are the positives. No pair across the views is a negative: alignment and uniformity are separate terms, of which either can
    reach its optimum. Two rows with the same positive are no negatives of each other; a row without negatives does not count.
    ``pair.weights`` count a row that often in the mean; as a negative it stands once.

    Raises:
        ValueError: a temperature that is not above 0; sparse positives, at the call.

    Source: Koromilas et al., ICML 2024; pakoromilas/DHEL-KCL@dc5a477.
    Departs: the release multiplies the two sums before the logarithm, which overflows at small t.
    """

    temperature: float = 0.3
    tile_entries: int = 2**20  # logits held at a time

    def __post_init__(self) -> None:
        check_temperature(self.temperature)

    def __call__(self, pair: Pair) -> Tensor:
        query, keys = unit_rows(pair.query), unit_rows(positive_keys(pair, "DHEL"))
        weights, same = row_weights(pair), same_ids(pair.positives)
        spread = torch.stack(
            [
                log_sum_exp(x, x, self.temperature, tile_entries=self.tile_entries, banned=same, weights=weights)
                for x in (query, keys)
            ]
        ).sum(0)
        counted = spread != -torch.inf
        losses = torch.where(counted, spread - (query * keys).sum(1) / self.temperature, 0.0)
        return weighted_mean(losses, weights * counted)
