"""A queue of keys from earlier steps beside those of the batch."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from graphcl.objectives.approximate import Approximate, Call
from graphcl.objectives.log_sum_exp import log_sum_exp
from graphcl.objectives.rows import places_of


class Bank(Approximate):
    """The batch's keys and the last ``size`` keys of steps before, as they were then, each once; of a step that has more, ``size`` at
    random.

    A stale key gets no gradient, and is masked for an anchor whose positive or excluded key it is, and where the batch has it
    afresh. The batch's keys enter after the step. Its sum is over some keys only, so what is measured as its gap is that of the mean
    exponential, not of the sum.

    Raises:
        ValueError: a size below 1, at the call rows of another width, after the step that it was asked for several pairs of one kind
            (each layer or view needs a bank of its own).

    Source: MoCo, He et al., CVPR 2020; with the batch's own keys as XBM, Wang et al., CVPR 2020.
    """

    def __init__(self, kinds: Mapping[str, int], size: int, dim: int, *, tile_entries: int = 2**20):
        super().__init__(None, tile_entries)
        if size < 1:
            raise ValueError(f"size must be 1 or more keys, got {size}")
        self.kinds = tuple(kinds)
        for kind, count in kinds.items():
            self.register_buffer(f"{kind}_rows", torch.zeros(min(size, count), dim))
            self.register_buffer(f"{kind}_ids", torch.full((min(size, count),), -1))
        self._pending: dict[str, tuple[Tensor, Tensor]] = {}
        self._twice: set[str] = set()  # kinds of which other keys came in one step

    def after_step(self, inputs, step: int, rng: torch.Generator) -> None:
        if self._twice:
            kinds = ", ".join(sorted(self._twice))
            raise ValueError(
                f"other keys of kind {kinds} came in one step: a bank holds those of one view; give each pair its own"
            )
        for kind, (ids, rows) in self._pending.items():
            # Rows stand by degree: cut in order, only hubs would stay.
            order = torch.randperm(len(ids), generator=rng).to(ids.device)
            ids, rows = ids[order], rows[order]
            kept_rows, kept_ids = self.get_buffer(f"{kind}_rows"), self.get_buffer(f"{kind}_ids")
            old = ~torch.isin(kept_ids, ids) & (kept_ids >= 0)
            size = len(kept_ids)
            new_ids, new_rows = torch.cat([ids, kept_ids[old]])[:size], torch.cat([rows.to(kept_rows), kept_rows[old]])[:size]
            kept_ids.fill_(-1)
            kept_ids[: len(new_ids)], kept_rows[: len(new_ids)] = new_ids, new_rows
        self._pending = {}

    def estimate(self, call: Call) -> Tensor:
        if call.kind not in self.kinds:
            raise ValueError(f"the bank has no kind {call.kind!r}, only {', '.join(self.kinds)}")
        ids, rows = self.get_buffer(f"{call.kind}_ids"), self.get_buffer(f"{call.kind}_rows")
        if rows.shape[1] != call.query.shape[1]:
            raise ValueError(f"the bank is for rows of width {rows.shape[1]}, got {call.query.shape[1]}")
        fresh = call.known[1].unique()
        keys = call.rows(fresh)
        kept = (ids >= 0) & ~torch.isin(ids, fresh)
        columns = torch.cat([fresh, ids[kept]])
        self.offset = math.log(len(call.key) / max(1, len(columns)))
        out = None if call.banned is None else places_of(*call.banned, columns)
        if self.training:
            before = self._pending.get(call.kind)
            if before is not None and not (torch.equal(before[0], fresh) and torch.equal(before[1], keys)):
                self._twice.add(call.kind)
            self._pending[call.kind] = fresh, keys.detach()
        return log_sum_exp(
            call.query, torch.cat([keys, rows[kept].to(keys)]), call.temperature, tile_entries=self.tile_entries, bias=call.bias(columns),
            banned=out, weights=call.weights,
        )  # fmt: skip
