"""The main pass against its layers seen through another operator, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphcl.contracts import Forward, Layers, Pair, Readout
from graphcl.ops import Operator, draw_key, uniform, unit_rows


class RelayedLayers(nn.Module):
    """For each layer l >= 1, what the main pass gained there, ``readouts[l - 1]``, against ``leaky(op E(l-1))`` times a trainable W(l).

    Queries are the main side, unit rows; keys the relayed one: unit rows, then multiplied by W(l) [d, d], which all kinds share.
    Each query leaves the loss with probability ``drop``; it stays a key of the others.

    Source: LightGCL's paper, Cai et al., ICLR 2023; W and the dropped queries stand in HKUDS/LightGCL@5590453,
    old_setting/model.py only.
    Relations: :class:`Relayed` is the later release's form, one pair of readouts without W, activation or drop.
    """

    passes = 0

    def __init__(
        self,
        op: Operator,
        readouts: tuple[Readout, ...],  # one for each layer from 1 on
        dim: int,
        *,
        slope: float = 0.5,
        drop: float = 0.5,
        rng: torch.Generator,
    ):
        super().__init__()
        if not 0 <= drop < 1:
            raise ValueError(f"drop must lie in [0, 1), got {drop}")
        self.op, self.readouts, self.slope, self.drop = op, readouts, slope, drop
        bound = (3 / dim) ** 0.5  # Xavier's for a square matrix
        self.weights = nn.ParameterList(torch.empty(dim, dim).uniform_(-bound, bound, generator=rng) for _ in readouts)

    def forward(self, forward: Forward) -> tuple[Pair, ...]:
        main = forward.main
        self.op = self.op.to(main[0].device)  # copies once, as in Relayed
        found: list[Pair] = []
        for number, (readout, weight) in enumerate(zip(self.readouts, self.weights, strict=True)):
            relayed = Layers((F.leaky_relu(self.op @ main[number], self.slope),))
            found += forward.pairs((main, _Unit(readout)), (relayed, _Projected(weight)))
        return tuple(self._thinned(forward, pair) for pair in found)

    def _thinned(self, forward: Forward, pair: Pair) -> Pair:
        if not self.drop:
            return pair
        kept = uniform(draw_key(forward.rng), forward.rows[pair.kind])[:, 0] >= self.drop
        return replace(pair, weights=kept if pair.weights is None else kept * pair.weights)


@dataclass(frozen=True)
class _Unit:
    readout: Readout

    def __call__(self, layers: Layers) -> Tensor:
        return unit_rows(self.readout(layers))


@dataclass(frozen=True, eq=False)
class _Projected:
    weight: Tensor  # [d, d]

    def __call__(self, layers: Layers) -> Tensor:
        return unit_rows(layers[0]) @ self.weight
