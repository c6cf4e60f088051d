"""Two noisy passes."""

from __future__ import annotations

from dataclasses import dataclass

from graphcl.contracts import Forward, Pair, Perturb, Readout


@dataclass(frozen=True)
class TwoNoises:
    """Two passes over the same input with independent noise after every layer.

    Source: SimGCL, Yu et al., SIGIR 2022.
    """

    noise: Perturb
    readout: Readout
    passes = 2

    def __call__(self, forward: Forward) -> tuple[Pair, ...]:
        first, second = (forward.encode(forward.inputs, perturb=self.noise) for _ in range(2))
        return forward.pairs((first, self.readout), (second, self.readout))
