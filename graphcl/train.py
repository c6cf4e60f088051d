"""The one training loop and the one training step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from graphcl.contracts import Batch, Batches, Part, Step, Terms
from graphcl.graph import Graph
from graphcl.streams import Streams


@dataclass(frozen=True)
class Epoch:
    """What one pass over the data did."""

    number: int  # 1, 2, ...
    steps: int
    terms: dict[str, float]  # mean over steps of each loss term
    seconds: float  # sampling and steps, without evaluation
    gaps: dict[str, dict[str, float]] = field(default_factory=dict)  # of approximate denominators, nats: mean and p95 by kind


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model without dropout, and then as it was."""
    was = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was)


class PlainStep:
    """Sum the model's terms, differentiate, move. Adam without weight decay unless told, since decay is a term of most losses.

    The learning rate of epoch n is ``learning_rate * rate_decay ** (n - 1)``, but no less than ``lowest_rate``.
    """

    def __init__(
        self,
        model: nn.Module,
        learning_rate: float,
        *,
        rate_decay: float = 1.0,
        lowest_rate: float = 0.0,
        weight_decay: float = 0.0,
    ):
        if not learning_rate > 0:
            raise ValueError(f"learning_rate must be above 0, got {learning_rate}")
        if not 0 < rate_decay <= 1 or not 0 <= lowest_rate <= learning_rate:
            raise ValueError(
                f"rate_decay must lie in (0, 1] and lowest_rate in [0, learning_rate], got {rate_decay} and {lowest_rate}"
            )
        self.learning_rate, self.rate_decay, self.lowest_rate = learning_rate, rate_decay, lowest_rate
        parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimiser = torch.optim.Adam(parameters, lr=learning_rate, weight_decay=weight_decay, fused=True)

    def start_epoch(self, number: int) -> None:
        if self.rate_decay < 1:  # else the rate is the optimiser's own, which a caller may have changed
            for group in self.optimiser.param_groups:
                group["lr"] = max(self.learning_rate * self.rate_decay ** (number - 1), self.lowest_rate)

    def __call__(self, model: nn.Module, inputs: Graph, batch: Batch, rng: torch.Generator) -> Terms:
        self.optimiser.zero_grad(set_to_none=True)
        terms: Terms = model.losses(inputs, batch, rng)  # type: ignore[operator]
        torch.stack(list(terms.values())).sum().backward()
        self.optimiser.step()
        return terms

    def state_dict(self) -> dict[str, Any]:
        return self.optimiser.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimiser.load_state_dict(state)


def fit(
    model: nn.Module,
    inputs: Graph,
    *,
    step: Step,
    batches: Batches,
    streams: Streams,
    epochs: int,
    done: int = 0,
    on_step: Callable[[int], None] | None = None,
) -> Iterator[Epoch]:
    """Trains and yields after each epoch; what to do then (evaluate, stop, save) is the caller's plain code.

    ``done`` epochs are taken as run: with model, step and streams restored as they were, the rest is what it would have been.

    Raises:
        FloatingPointError: a loss term is not finite.
    """
    device = next(model.parameters()).device
    hooks = [m for m in model.modules() if isinstance(m, Part)]
    schedule = getattr(step, "start_epoch", None)
    for number in range(done + 1, epochs + 1):
        began = time.perf_counter()
        model.train()
        if schedule is not None:
            schedule(number)
        for part in hooks:
            part.start_epoch(inputs, number, streams["views"])
        sums: dict[str, Tensor] = {}
        finite: dict[str, Tensor] = {}  # steps; a term that fails takes the others with it in the next step, so count
        steps = 0
        for batch in batches(streams["batches"]):
            if device.type != "cpu":
                batch = batch.to(device)
            terms = step(model, inputs, batch, streams["views"])
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value.detach()
                finite[name] = finite.get(name, 0) + value.detach().isfinite()
            steps += 1
            for part in hooks:
                part.after_step(inputs, steps, streams["views"])
            if on_step is not None:
                on_step(steps)
        means = {name: float(value) / steps for name, value in sums.items()}
        broken = [name for name, mean in means.items() if not math.isfinite(mean)]
        if broken:
            first = min(broken, key=lambda name: int(finite[name]))
            raise FloatingPointError(
                f"loss term {first!r} was no longer finite in step {int(finite[first]) + 1} of epoch {number}; "
                "a smaller learning_rate or a larger temperature may help"
            )
        yield Epoch(number, steps, means, time.perf_counter() - began, _gaps(model))


def _gaps(model: nn.Module) -> dict[str, dict[str, float]]:
    """What strategies have measured, by kind; of several for a kind also by their place in the model."""
    found = [(name, kind, gap) for name, part in model.named_modules() for kind, gap in getattr(part, "gaps", {}).items()]
    kinds = [kind for _, kind, _ in found]
    return {kind if kinds.count(kind) == 1 else f"{name}.{kind}": asdict(gap) for name, kind, gap in found}
