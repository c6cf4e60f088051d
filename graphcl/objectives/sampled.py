"""Sampled softmax: keys drawn for a step, corrected for how likely each was."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from graphcl.objectives.approximate import Approximate, Call
from graphcl.objectives.log_sum_exp import joined, log_sum_exp
from graphcl.objectives.rows import places_of


class Sampled(Approximate):
    """``count`` keys, drawn anew at every call for all anchors together, beside each anchor's positives.

    Keys are drawn with replacement, alike, or in proportion to ``popularity ** power``, which all kinds then need. ``log_q`` subtracts
    ``log(count q_j)`` from a drawn key's logit, so that the sum estimates that over all keys with any popularity without bias; without it
    popular keys count as often as they are drawn. A key that is an anchor's positive, or excluded, is masked where it is drawn. The
    logarithm of the estimate is biased low, the more the fewer are drawn and the lower the temperature.

    Raises:
        ValueError: a setting outside its range, popularity of which none is above 0; at the call popularity for another number of keys, or
            for other kinds alone.

    Source: Bengio and Senécal, 2008; in-batch as Yi et al., RecSys 2019; power .75 after Mikolov et al., 2013.
    """

    def __init__(
        self,
        count: int = 1024,
        *,
        popularity: Mapping[str, Tensor] | None = None,  # [m] for each kind
        power: float = 0.75,
        log_q: bool = True,
        rng: torch.Generator | None = None,
        tile_entries: int = 2**20,
    ):
        super().__init__(rng, tile_entries)
        if count < 1:
            raise ValueError(f"count must be 1 or more keys, got {count}")
        self.count, self.log_q = count, log_q
        self._chances: dict[str, tuple[Tensor, Tensor]] = {}
        for kind, values in (popularity or {}).items():
            chance = values.double() ** power
            if not bool((values >= 0).all()) or not 0 < float(chance.sum()) < math.inf:
                raise ValueError(f"popularity of kind {kind!r} must be 0 or more and finite, and above 0 for some key")
            chance = (chance / chance.sum()).cpu()  # where draws are made
            self._chances[kind] = chance, chance.cumsum(0)

    def estimate(self, call: Call) -> Tensor:
        m = len(call.key)
        if not self._chances:
            drawn = torch.randint(m, (self.count,), generator=self.rng)
            correction = torch.full((self.count,), math.log(m / self.count), dtype=torch.float64)
        else:
            if call.kind not in self._chances:
                raise ValueError(f"popularity is given of kind {', '.join(self._chances)}, not of {call.kind!r}")
            chance, ends = self._chances[call.kind]
            if len(chance) != m:
                raise ValueError(f"popularity is of {len(chance)} keys of kind {call.kind!r}, but there are {m}")
            drawn = torch.searchsorted(
                ends, torch.rand(self.count, generator=self.rng, dtype=torch.float64) * ends[-1], right=True
            )
            drawn = drawn.clamp_max(m - 1)
            correction = -(chance[drawn] * self.count).log()
        drawn = drawn.to(call.query.device)
        bias = call.bias(drawn)
        if self.log_q:
            correction = correction.to(call.query)
            bias = correction if bias is None else bias + correction
        out = [places_of(*entries, drawn) for entries in (call.known, call.banned) if entries is not None]
        rest = log_sum_exp(
            call.query, call.rows(drawn), call.temperature, tile_entries=self.tile_entries, bias=bias,
            banned=(torch.cat([r for r, _ in out]), torch.cat([p for _, p in out])),
        )  # fmt: skip
        return joined([rest, call.positive_lse()])
