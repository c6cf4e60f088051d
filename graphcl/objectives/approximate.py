"""What every approximate denominator has in common: a stream to draw from, and its measured distance from the exact one."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from graphcl.contracts import Keys, Part
from graphcl.objectives.log_sum_exp import Entries, log_sum_exp
from graphcl.objectives.negatives import AllKeys
from graphcl.objectives.rows import entries
from graphcl.ops import row_pointers, segment_log_sum_exp, unit_rows

WARN = 0.2  # nats
_ANCHORS = 256  # of a batch, on which the gap is measured
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Gap:
    """Approximate minus exact log-sum-exp over some anchors, in nats."""

    mean: float
    p95: float  # 95th percentile of the absolute value


class Approximate(Part):
    """A strategy whose denominator differs from that over all keys.

    At the first step of an epoch it also computes the exact log-sum-exp of up to 256 evenly spaced anchors: ``gaps`` holds, by kind,
    how far it was off. A mean above 0.2 nats is logged as a warning.
    """

    reads_all = True

    def __init__(self, rng: torch.Generator | None = None, tile_entries: int = 2**20):
        super().__init__()
        self.tile_entries = tile_entries
        self.gaps: dict[str, Gap] = {}
        self.offset = 0.0  # what the last estimate lacks of one over all keys; not a part of the loss
        self._rng = rng

    @property
    def rng(self) -> torch.Generator:
        if self._rng is None:
            raise RuntimeError(f"{type(self).__name__} draws at random: give it rng, or train it with fit, which does")
        return self._rng

    def start_epoch(self, inputs, epoch: int, rng: torch.Generator) -> None:
        self._rng, self.gaps = rng, {}

    def forward(
        self,
        query: Tensor,
        key: Keys,
        positives: Tensor,
        *,
        temperature: float,
        key_weights: Tensor | None = None,
        exclude: Tensor | None = None,
        normalise: bool = False,
        weights: Tensor | None = None,
        kind: str = "node",
    ) -> Tensor:
        given = Call(query, key, positives, temperature, key_weights, exclude, normalise, weights, kind)
        lse = self.estimate(given)
        if self.training and kind not in self.gaps and len(query):
            # Keys are read where gradients are on: whoever is asked keeps what it made, for others of the step.
            self.gaps[kind] = self._gap(given, key.all().detach(), lse.detach())
        return lse

    def estimate(self, call: Call) -> Tensor:  # [n]
        raise NotImplementedError

    @torch.no_grad()
    def _gap(self, call: Call, keys: Tensor, lse: Tensor) -> Gap:
        n = len(call.query)
        some = watched(lse)
        banned = call.banned
        if banned is not None:
            place = lse.new_full((n,), -1, dtype=torch.int64)
            place[some] = torch.arange(len(some), device=lse.device)
            kept = place[banned[0]] >= 0
            banned = place[banned[0][kept]], banned[1][kept]
        exact = log_sum_exp(
            call.query[some].detach(), unit_rows(keys) if call.normalise else keys, call.temperature, tile_entries=AllKeys.tile_entries,
            bias=None if call.key_weights is None else call.key_weights.log(), banned=banned,
        )  # fmt: skip
        return measured(self, call.kind, lse[some] + self.offset, exact)


def watched(lse: Tensor) -> Tensor:
    """The anchors [n] on which a gap is measured, evenly spaced."""
    return torch.arange(0, len(lse), -(-len(lse) // _ANCHORS), device=lse.device)


def measured(part: Part, kind: str, found: Tensor, exact: Tensor) -> Gap:  # [n] each
    """The gap over anchors that have keys in both; a large one is warned of."""
    off = (found - exact)[(exact != -torch.inf) & (found != -torch.inf)].double()
    if not len(off):
        return Gap(0.0, 0.0)
    gap = Gap(float(off.mean()), float(off.abs().quantile(0.95)))
    if abs(gap.mean) > WARN:
        told = "%s: the log-sum-exp of %s anchors is %+.2f nats from the exact one in the mean; more clusters or draws bring it nearer"
        _log.warning(told, type(part).__name__, kind, gap.mean)
    return gap


@dataclass(frozen=True, eq=False)
class Call:
    """What a strategy is asked."""

    query: Tensor  # [n, d]
    key: Keys
    positives: Tensor
    temperature: float
    key_weights: Tensor | None  # [m]
    exclude: Tensor | None  # sparse CSR [n, m]
    normalise: bool
    weights: Tensor | None  # [n]
    kind: str

    @property
    def banned(self) -> Entries | None:
        """Anchors and keys that are left out."""
        return None if self.exclude is None else entries(self.exclude)

    @property
    def known(self) -> Entries:
        """Anchors and their positives."""
        return entries(self.positives)

    def rows(self, ids: Tensor) -> Tensor:  # [u, d]
        """Keys as they are compared."""
        rows = self.key.at(ids)
        return unit_rows(rows) if self.normalise else rows

    def bias(self, ids: Tensor) -> Tensor | None:  # [u]
        return None if self.key_weights is None else self.key_weights[ids].to(self.query.dtype).log()

    def numbers(self, *entries: Entries | None) -> Tensor:
        """One number for each pair of anchor and key."""
        return torch.cat([found[0] * len(self.key) + found[1] for found in entries if found is not None])

    def positive_lse(self) -> Tensor:  # [n]
        """Log-sum-exp over each anchor's positives that are not excluded; -inf where there is none."""
        rows, cols = self.known
        if self.exclude is not None:
            kept = ~torch.isin(self.numbers((rows, cols)), self.numbers(self.banned))
            rows, cols = rows[kept], cols[kept]
        if self.positives.layout == torch.sparse_csr:
            ids, place = cols.unique(return_inverse=True)
            keys = self.rows(ids)[place]
        else:
            keys = self.rows(self.positives)[rows]  # by the ids as they came, which a side may have gathered already
        logits = (self.query[rows] * keys).sum(1) / self.temperature
        bias = self.bias(cols)
        return segment_log_sum_exp(logits if bias is None else logits + bias, row_pointers(rows, len(self.query)))
