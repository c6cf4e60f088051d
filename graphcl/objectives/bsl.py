"""Bilateral softmax loss: a soft maximum over positives as over negatives."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from graphcl.contracts import Negatives, Pair
from graphcl.objectives.negatives import InBatch
from graphcl.objectives.rows import check_positive_weights, check_temperature, listed_keys, row_weights, weighted_mean
from graphcl.ops import csr_of, pair_scores, segment_log_sum_exp, segment_sum, unit_rows


@dataclass(frozen=True)
class BSL:
    """``mean_i -log E_p exp(s_ip / t1) + power log sum_j exp(s_ij / t2)``, cosines, positives p and negatives j of anchor i.

    t1 is ``temperature``, t2 ``negative_temperature`` (None: t1), and ``power`` is t2 / t1 where it is None. ``BSL(t1, power=t2)`` is the
    released form, ``BSL(t1, negative_temperature=t2)`` the paper's divided by t1; they are the same only for t1 = t2 and power 1.

    E_p is the mean over the positives of an anchor, by their weights where they are a sparse CSR; with one each it is that one.
    ``negatives``: whose keys are compared with; an anchor's own positives never are. Anchors without positives or negatives do not
    count; ``pair.weights`` count an anchor that often.

    Raises:
        ValueError: a setting outside its range; a negative weight of a positive, at the call.

    Source: Wu et al., ICDE 2024; junkangwu/BSL@89e0267, utils/losses.py. Its (t1, power), with 800 sampled negatives on yelp2018:
    0.11 and 1.10; amazon 0.14 and 1.32; gowalla 0.08 and 1.22.
    Departs: a sum over negatives where the release has their mean, which is another constant without a gradient.
    Relations: with one positive each, t1 = t2 and power 1 it is decoupled InfoNCE.
    """

    temperature: float
    power: float | None = None
    negative_temperature: float | None = None
    negatives: Negatives = field(default_factory=InBatch)

    def __post_init__(self) -> None:
        for name in ("temperature", "power", "negative_temperature"):
            check_temperature(getattr(self, name), name)

    @property
    def reads_all(self) -> bool:
        return self.negatives.reads_all

    def __call__(self, pair: Pair) -> Tensor:
        query, weights, own = unit_rows(pair.query), row_weights(pair), _own(pair)
        temperature = self.negative_temperature or self.temperature
        power = temperature / self.temperature if self.power is None else self.power
        lse = self.negatives(
            query, pair.key, pair.positives, temperature=temperature, exclude=own, normalise=True, weights=weights, kind=pair.kind
        )
        positive = self._positive(query, pair, own)
        counted = (lse != -torch.inf) & (positive != -torch.inf)
        # Each masked by itself: the difference of two infinities is NaN.
        far, near = (torch.where(counted, x, 0.0) for x in (lse, positive))
        return weighted_mean(power * far - near, weights * counted)

    def _positive(self, query: Tensor, pair: Pair, own: Tensor) -> Tensor:  # [n]; -inf for an anchor without positives
        if own is not pair.positives:
            return (query * unit_rows(pair.key.at(pair.positives))).sum(1) / self.temperature
        pointers, weight = own.crow_indices(), own.values().to(query.dtype)
        check_positive_weights(weight)
        keys, place = listed_keys(pair, own.col_indices(), self.reads_all)
        similar = pair_scores(query, unit_rows(keys), pointers, place) / self.temperature
        total = segment_sum(weight, pointers)
        return segment_log_sum_exp(similar + weight.log(), pointers) - torch.where(total > 0, total, 1.0).log()


def _own(pair: Pair) -> Tensor:
    """Sparse CSR [n, m] of the positives."""
    if pair.positives.layout == torch.sparse_csr:
        return pair.positives
    n = len(pair.positives)
    pointers = torch.arange(n + 1, device=pair.positives.device)
    ones = torch.ones(n, device=pair.positives.device)
    return csr_of(pointers, pair.positives, ones, (n, len(pair.key)))
