"""Decoupled contrastive learning: the positive pair stands in no denominator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from graphcl.contracts import Pair
from graphcl.objectives.log_sum_exp import Entries, log_sum_exp
from graphcl.objectives.rows import check_temperature, positive_keys, row_weights, same_ids, weighted_mean
from graphcl.ops import unit_rows


@dataclass(frozen=True)
class DCL:
    """``mean_i -w_i s_i+ / t + log sum exp(s_ij / t)``, cosines, over the batch's other queries and others' positives j.

    ``sigma`` gives DCLW: ``w_i = 2 - exp(s_i+ / sigma) / mean exp(s+ / sigma)``, a constant for the gradient, so that pairs that lie
    far apart are pulled more; None: w = 1. ``symmetric`` averages with the other direction, in which keys ask.

    Two rows with the same positive are no negatives of each other, in neither view. A row without any negative does not count.
    ``pair.weights`` count a row that often in the means; as a negative it stands once. The loss has no lower bound at 0:
    do not stop early by its value.

    Raises:
        ValueError: a setting outside its range; sparse positives, at the call.

    Source: Yeh et al., ECCV 2022; raminnakhli/Decoupled-Contrastive-Learning@0b9b76d, loss/dcl.py; lightly@e8d317f (sigma 0.5).
    Departs: the first release lets the gradient through w.
    Relations: ``InfoNCE(positive_in_denominator=False)`` has no negatives in the query's own view, may have all keys, and takes
    several positives.
    """

    temperature: float = 0.1
    sigma: float | None = None
    symmetric: bool = False
    tile_entries: int = 2**20  # logits held at a time

    def __post_init__(self) -> None:
        for name in ("temperature", "sigma"):
            check_temperature(getattr(self, name), name)

    def __call__(self, pair: Pair) -> Tensor:
        query, keys = unit_rows(pair.query), unit_rows(positive_keys(pair, "DCL"))
        weights, same = row_weights(pair), same_ids(pair.positives)
        loss = self._one_way(query, keys, weights, same)
        return (loss + self._one_way(keys, query, weights, same)) / 2 if self.symmetric else loss

    def _one_way(self, query: Tensor, keys: Tensor, weights: Tensor, same: Entries) -> Tensor:
        rows, columns = same
        banned = torch.cat([rows, rows]), torch.cat([columns, columns + len(keys)])
        lse = log_sum_exp(
            query, torch.cat([keys, query]), self.temperature, tile_entries=self.tile_entries, banned=banned, weights=weights
        )
        similar = (query * keys).sum(1)
        positive = self._pull(similar.detach(), weights) * similar / self.temperature
        counted = lse != -torch.inf
        return weighted_mean(torch.where(counted, lse - positive, 0.0), weights * counted)

    def _pull(self, similar: Tensor, weights: Tensor) -> Tensor | float:
        if self.sigma is None:
            return 1.0
        counted = weights > 0
        if not bool(counted.any()):
            return 1.0
        # By the closest pair that counts, whose exponential the mean holds; of pairs that do not count none may overflow.
        scaled = ((similar - similar[counted].max()) / self.sigma).clamp_max(0).exp()
        return 2 - scaled / weighted_mean(scaled, weights)
