"""The main pass seen through another operator."""

from __future__ import annotations

from graphcl.contracts import Forward, Layers, Pair, Readout
from graphcl.ops import Operator, gather_rows


class Relayed:
    """Each main layer, one hop further through ``op`` (a truncated SVD: LightGCL) instead of through the graph.

    Queries are the relayed side, keys the main side; both share layer 0.

    Source: LightGCL, Cai et al., ICLR 2023; HKUDS/LightGCL@5590453.
    """

    passes = 0

    def __init__(self, op: Operator, readout: Readout):
        self.op, self.readout = op, readout

    def __call__(self, forward: Forward) -> tuple[Pair, ...]:
        main = forward.main
        self.op = self.op.to(main[0].device)  # copies once: an operator is no buffer, so moving the model leaves it behind
        sources = main.each[:-1]
        hops = [lambda _, h=h: self.op @ h for h in sources]  # each from a main layer, not from the relayed one before
        relayed = Layers.growing(
            main[0], hops, lambda _, rows: (gather_rows(main[0], rows), *(self.op.rows(rows) @ h for h in sources))
        )
        return forward.pairs((relayed, self.readout), (main, self.readout))
