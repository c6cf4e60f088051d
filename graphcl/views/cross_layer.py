"""Two layers of one pass."""

from __future__ import annotations

from dataclasses import dataclass

from graphcl.contracts import Forward, Pair, Readout


@dataclass(frozen=True)
class CrossLayer:
    """One readout of the main pass against another of the same pass; no pass of its own.

    Source: XSimGCL, Yu et al., TKDE 2023 (final readout against layer l*); NCL's structural contrast.
    """

    query: Readout
    key: Readout
    passes = 0

    def __call__(self, forward: Forward) -> tuple[Pair, ...]:
        return forward.pairs((forward.main, self.query), (forward.main, self.key))
