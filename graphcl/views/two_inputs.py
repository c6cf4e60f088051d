"""Two changed inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

from graphcl.contracts import Forward, Pair, Part, Readout
from graphcl.graph import Graph


class TwoInputs(Part):
    """The encoder on two independent changes of the input.

    ``every="epoch"`` changes the input once an epoch (SGL: a graph is rebuilt, which costs as much as several steps), "step" at
    every step. The changed graphs are drawn anew at each epoch's start, so a checkpoint at its end need not hold them.

    Source: SGL, Wu et al., SIGIR 2021.
    """

    passes = 2

    def __init__(
        self, change: Callable[[Graph, torch.Generator], Graph], readout: Readout, *, every: Literal["epoch", "step"] = "step"
    ):
        super().__init__()
        if every not in ("epoch", "step"):
            raise ValueError(f"every must be 'epoch' or 'step', got {every!r}")
        self.change, self.readout, self.every = change, readout, every
        self._graphs: tuple[Graph, Graph] | None = None

    def start_epoch(self, inputs: Graph, epoch: int, rng: torch.Generator) -> None:
        if self.every == "epoch":
            self._graphs = (self.change(inputs, rng), self.change(inputs, rng))

    def __call__(self, forward: Forward) -> tuple[Pair, ...]:
        graphs = self._graphs
        if self.every == "step":
            graphs = (self.change(forward.inputs, forward.rng), self.change(forward.inputs, forward.rng))
        if graphs is None:
            raise RuntimeError("TwoInputs(every='epoch') needs start_epoch before the first step")
        first, second = (forward.encode(graph) for graph in graphs)
        return forward.pairs((first, self.readout), (second, self.readout))
