"""One training phase of a run: epochs, evaluation, early stopping, checkpoints."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

from graphcl import rundir
from graphcl.contracts import Batches, Scorer, Step
from graphcl.data.protocol import Plan
from graphcl.graph import Graph
from graphcl.interactions import Interactions
from graphcl.metrics import ACCURACY, parse
from graphcl.rank import DotScorer, RankReport, evaluate
from graphcl.rank import Progress as Ranking
from graphcl.recipes.model import Model
from graphcl.recipes.parts import batches_of, inputs_of, step_of
from graphcl.sequence import Sequences
from graphcl.streams import Streams
from graphcl.train import Epoch, fit

CUTOFFS = (10, 20, 40)
Observer = Callable[[str, dict[str, Any]], None]  # ("step" | "epoch", what happened)
Assessed = tuple[dict[str, Any], float | None]  # what was found, and the score that chooses, if there is one
Assess = Callable[[Epoch, bool], Assessed]  # whether an evaluation is due


@dataclass(frozen=True)
class Progress:
    """Where a phase stands, at the end of an epoch."""

    epoch: int = 0
    steps: int = 0
    seconds: float = 0.0
    rank_seconds: float = 0.0
    best_epoch: int = 0
    best_score: float = -math.inf
    waited: int = 0  # evaluations since the best one
    lines: int = 0  # of metrics.jsonl

    @classmethod
    def read(cls, path: Path) -> Progress:
        """Of a checkpoint, whose tensors stay on the disk; that before the first epoch where there is none."""
        return cls.of(rundir.read_about(path)) if path.exists() else cls()

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> Progress:
        kept = {key: value for key, value in about["progress"].items() if key != "finished"}  # which older ones have
        return cls(**{**kept, "best_score": -math.inf if kept["best_score"] is None else kept["best_score"]})

    def spent(self, patience: int) -> bool:
        return 0 < patience <= self.waited

    def over(self, epochs: int, patience: int) -> bool:
        return self.epoch >= epochs or self.spent(patience)


@dataclass
class Phase:
    """What moves while a phase trains."""

    model: Model
    inputs: Graph
    step: Step
    batches: Batches
    streams: Streams
    best: dict[str, Tensor]
    progress: Progress


def start(recipe: ModuleType, config: Any, data: Interactions | Sequences, seed: int, device: str) -> Phase:
    """A phase on a training part, before its first epoch."""
    streams = Streams(seed)
    model: Model = recipe.build(config, data, rng=streams["init"])
    model.to(device)  # before the optimiser takes its parameters
    inputs = inputs_of(recipe, config, data).to(device)
    step, batches = step_of(recipe, config, model), batches_of(recipe, config, data)
    return Phase(model, inputs, step, batches, streams, {}, Progress())


def warm_up(recipe: ModuleType, config: Any, phase: Phase) -> None:
    """Compiles the kernels on a copy, so that ``seconds.train`` holds no compilation."""
    model = copy.deepcopy(phase.model)
    step = step_of(recipe, config, model)
    spare = Streams(0)
    one = next(phase.batches(spare["batches"]))
    for _ in fit(model, phase.inputs, step=step, batches=lambda rng: iter([one]), streams=spare, epochs=1):
        pass


def scorer(model: Model, inputs: Graph) -> DotScorer:
    """Ranks by the model as it stands; people outside the log are folded in."""
    layers = model.layers(inputs)
    table = model.readout(layers).detach()
    users, items = inputs.kinds["user"], inputs.kinds["item"]
    return DotScorer(table[users], table[items], lambda histories: model.fold(inputs, layers, histories))


def select_report(by: Scorer, plan: Plan, key: str, progress: Ranking | None = None) -> RankReport:
    """The evaluation that chooses the epoch, at the usual cut-offs and the chosen one."""
    assert plan.select is not None
    ks = sorted({*CUTOFFS, parse(key).k})
    masks = [m.matrix for m in plan.select_mask]
    return evaluate(by, plan.select.matrix, mask=masks, train=plan.train.matrix, ks=ks, metrics=ACCURACY, progress=progress)


def check(config: Any) -> None:
    """Raises ValueError for settings that cannot steer a phase."""
    check_selection(config.select)
    check_loop(config)


def check_loop(config: Any) -> None:
    """Raises ValueError for settings that no loop over epochs can have."""
    for key, least in (("epochs", 0), ("evaluate_every", 1), ("patience", 0)):
        if getattr(config, key) < least:
            raise ValueError(f"setting {key!r} must be {least} or more, got {getattr(config, key)}")


def check_selection(key: str) -> str:
    """``key`` in its usual spelling. Raises ValueError for what cannot choose an epoch."""
    metric = parse(key)
    if metric.name not in ACCURACY or metric.part:
        raise ValueError(f"cannot select on {key!r}; one of {', '.join(ACCURACY)} with a cut-off is needed, such as ndcg@20")
    return f"{metric.name}@{metric.k}"


def run(
    phase: Phase,
    plan: Plan,
    config: Any,
    directory: Path | None,
    *,
    epochs: int,
    name: str = "",  # of the phase, where a run has two
    observe: Observer | None = None,
    progress: Ranking | None = None,
) -> Phase:
    """`epochs_of` with the epoch chosen by ranking the plan's part for it."""
    key = check_selection(config.select)

    def assess(_: Epoch, due: bool) -> Assessed:
        if not due:
            return {}, None
        means = select_report(scorer(phase.model, phase.inputs), plan, key, progress).means
        return {plan.selected_on or "valid": means}, means[key]

    return epochs_of(phase, config, directory, None if plan.select is None else assess, epochs=epochs, name=name, observe=observe)


def epochs_of(
    phase: Phase,
    config: Any,
    directory: Path | None,
    assess: Assess | None,
    *,
    epochs: int,
    name: str = "",
    each_line: bool = False,
    observe: Observer | None = None,
) -> Phase:
    """Trains to the end or until patience is spent, then restores the best weights; without ``assess`` those of the last epoch.

    A checkpoint and a line of metrics are written after every evaluated epoch, at its end; without ``directory`` nothing is. With
    ``each_line`` there is a line for every epoch. ``assess`` is asked after every epoch, and told whether an evaluation is due.

    Raises FloatingPointError where the parameters are not finite at the end.
    """
    if directory is not None:
        log, saved = directory / "metrics.jsonl", directory / f"checkpoint{name}.safetensors"
        if saved.exists():
            restore(phase, saved)
    started = phase.progress
    if not started.over(epochs, config.patience):  # else the lines that follow are another phase's
        if directory is not None:
            rundir.keep_lines(log, started.lines)
        begin(phase)
        on_step = None if observe is None else (lambda number: observe("step", {"step": number}))
        for epoch in fit(
            phase.model, phase.inputs, step=phase.step, batches=phase.batches, streams=phase.streams,
            epochs=epochs, done=started.epoch, on_step=on_step,
        ):  # fmt: skip
            p = phase.progress
            p = replace(p, epoch=epoch.number, steps=p.steps + epoch.steps, seconds=p.seconds + epoch.seconds)
            last = epoch.number == epochs
            line: dict[str, Any] = {
                "epoch": epoch.number, "steps": p.steps, "terms": epoch.terms, "seconds": epoch.seconds, "elapsed": p.seconds,
            }  # fmt: skip
            if epoch.gaps:
                line["gaps"] = epoch.gaps
            due = epoch.number % config.evaluate_every == 0 or last
            if assess is None:
                p = replace(p, best_epoch=epoch.number)
            else:
                began = time.perf_counter()
                found, score = assess(epoch, due)
                line |= found
                p = replace(p, rank_seconds=p.rank_seconds + time.perf_counter() - began)
                if score is not None:
                    warm = epoch.number <= getattr(config, "warm_up", 0)  # part of the loss is not there yet
                    p = replace(p, waited=0 if warm else p.waited + 1)
                    if score > p.best_score:
                        p = replace(p, best_epoch=epoch.number, best_score=score, waited=0)
                        if config.select != "last":
                            phase.best = {k: v.detach().clone() for k, v in phase.model.state_dict().items()}
                    line["best_epoch"] = p.best_epoch
            if name:
                line["phase"] = name.strip("-")
            stop = p.over(epochs, config.patience)
            written = due or stop or each_line
            phase.progress = replace(p, lines=p.lines + written)
            if written and directory is not None:
                rundir.append_line(log, line)
            if (due or stop) and directory is not None:
                save(phase, saved)
            if observe is not None:
                observe("epoch", line)
            if stop:
                break
    take_best(phase)
    return phase


def begin(phase: Phase) -> None:
    """A model that has ``begin(inputs, rng)`` is trained beforehand or placed by it: once, for a checkpoint holds what it did."""
    beforehand = getattr(type(phase.model), "begin", None)  # of the class, for a parameter may have the name
    if beforehand is not None and phase.progress.epoch == 0:
        began = time.perf_counter()
        beforehand(phase.model, phase.inputs, phase.streams["init"])
        phase.progress = replace(phase.progress, seconds=phase.progress.seconds + time.perf_counter() - began)


def take_best(phase: Phase) -> None:
    """The best weights, where there are some. Raises FloatingPointError for parameters that are not finite, which no loss has seen yet."""
    if phase.best:
        phase.model.load_state_dict(phase.best)
    broken = [name for name, value in phase.model.named_parameters() if not bool(value.isfinite().all())]
    if broken:
        raise FloatingPointError(f"{', '.join(broken)} is not finite after the last step; a smaller learning_rate may help")


def save(phase: Phase, path: Path) -> None:
    """Everything that the next epoch depends on, in one file."""
    tensors = {f"model/{k}": v for k, v in phase.model.state_dict().items()}
    tensors |= {f"best/{k}": v for k, v in phase.best.items()}
    tensors |= {f"stream/{k}": v for k, v in phase.streams.state_dict().items()}
    step, shape = _flatten(phase.step.state_dict())
    tensors |= {f"step/{k}": v for k, v in step.items()}
    rundir.write_tensors(path, tensors, {"progress": _finite(asdict(phase.progress)), "step": shape, "format": rundir.FORMAT})


def restore(phase: Phase, path: Path) -> None:
    """Raises ValueError for a checkpoint of another model."""
    tensors, about = rundir.read_tensors(path)

    def part(name: str) -> dict[str, Tensor]:
        return {k[len(name) + 1 :]: v for k, v in tensors.items() if k.startswith(name + "/")}

    try:
        phase.model.load_state_dict(part("model"))
        phase.step.load_state_dict(_unflatten(part("step"), about["step"]))
    except (RuntimeError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: the checkpoint does not fit this recipe and data ({error})") from None
    device = next(phase.model.parameters()).device
    phase.best = {k: v.to(device) for k, v in part("best").items()}
    phase.streams.load_state_dict(part("stream"))
    phase.progress = Progress.of(about)


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def _flatten(state: Any, path: str = "") -> tuple[dict[str, Tensor], Any]:
    """Tensors of a nested state by path, and the state with each tensor replaced by ``{"@": path}``."""
    if isinstance(state, Tensor):
        return {path: state}, {"@": path}
    if isinstance(state, dict):
        found: dict[str, Tensor] = {}
        shape = []
        for key, value in state.items():
            tensors, inner = _flatten(value, f"{path}.{key}")
            found |= tensors
            shape.append([key, inner])  # pairs, for JSON would turn whole-number keys into text
        return found, {"dict": shape}
    if isinstance(state, (list, tuple)):
        parts = [_flatten(value, f"{path}.{number}") for number, value in enumerate(state)]
        return {k: v for tensors, _ in parts for k, v in tensors.items()}, {"list": [inner for _, inner in parts]}
    return {}, {"value": state}


def _unflatten(tensors: dict[str, Tensor], shape: Any) -> Any:
    if "@" in shape:
        return tensors[shape["@"]]
    if "dict" in shape:
        return {key: _unflatten(tensors, inner) for key, inner in shape["dict"]}
    if "list" in shape:
        return [_unflatten(tensors, inner) for inner in shape["list"]]
    return shape["value"]
