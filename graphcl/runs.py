"""Runs: train a recipe on a log, keep everything in one directory, and use it later by the caller's own ids."""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

import pandas as pd
from torch import Tensor

from graphcl import claims, geometry, pretrain, rundir, sequence_run
from graphcl import phase as phases
from graphcl.data import protocol as protocols
from graphcl.data import registry
from graphcl.data.filter import filtered
from graphcl.data.fingerprint import of_split
from graphcl.data.nearest import nearest
from graphcl.data.protocol import Plan
from graphcl.data.read import read_interactions
from graphcl.data.source import expanded
from graphcl.data.split import Split, split
from graphcl.interactions import Interactions, concat, whole
from graphcl.pretrain import NodeRun
from graphcl.rank import DotScorer, Progress
from graphcl.recipes.configure import configure, find, preset_of, settings
from graphcl.recipes.parts import scorer_of
from graphcl.run import Run, num_cold, test_report
from graphcl.sequence_run import SequenceRun
from graphcl.streams import Streams

Data: TypeAlias = str | Path | pd.DataFrame | Interactions | Split
AnyRun: TypeAlias = Run | NodeRun | SequenceRun


def load(path: str | Path) -> AnyRun:
    """A run from its directory. Raises FileNotFoundError or ValueError where there is none, or a broken one."""
    kind = rundir.kind_of(expanded(path))
    return NodeRun(path) if kind in pretrain.PROTOCOLS else SequenceRun(path) if kind == "sequential" else Run(path)


def load_data(data: Data, protocol: str = "valid", **options: Any) -> tuple[Split, str | None]:
    """The split of a registered name, a path, a frame or a log, and the key of presets (None for data of one's own).

    Raises:
        ValueError: bad data, options of what is split already or of graphs, an unknown protocol, or a split that is not the
            protocol's own.
    """
    known = list(inspect.signature(registry.load).parameters)[1:]
    for key in options:
        if key == "num_clusters":
            raise ValueError("the option num_clusters is for attributed graphs and cannot be set for a log")
        if key not in known:
            raise ValueError(f"unknown option {key!r}{nearest(key, known)}; known: {', '.join(known)}")
    rule = protocols.find(protocol).rule
    for key in ("rule", "ratios", "cuts") if rule else ():
        if options.get(key) not in (None, rule):
            raise ValueError(f"protocol {protocol!r} splits by rule {rule!r} in its own ratios, so {key} cannot be set")
    if isinstance(data, Split):
        if options:
            raise ValueError(f"{data.name} is split already, so {', '.join(options)} cannot be set")
        found = data
    elif isinstance(data, (Interactions, pd.DataFrame)):
        frame = isinstance(data, pd.DataFrame)
        if wrong := [k for k in options if k in ("format", "carve") or (k.endswith("_col") and not frame)]:
            raise ValueError(
                f"{', '.join(wrong)}: not for {'a DataFrame' if frame else f'{data.name}, which is a log that is read'}"
            )
        reading = {k: options.pop(k) for k in list(options) if k.endswith("_col") or k in ("min_rating", "k_core")}
        log = read_interactions(data, **reading) if isinstance(data, pd.DataFrame) else filtered(data, reading)
        found = split(log, **options)
    elif isinstance(data, (str, Path)):
        found = registry.load(data, **options)
    else:
        raise ValueError(f"a log is needed: a name, a path, a DataFrame, Interactions or a Split, got {type(data).__name__}")
    if rule:
        anew = split(concat(list(found.parts.values())), rule=rule, split_seed=found.split_seed)
        found = replace(anew, name=found.name, kind=found.kind, citation=found.citation)
    return found, registry.full_name(found.kind, found)


@claims.training
def train(
    recipe: str = "xsimgcl",
    data: Data = "ml-100k",
    *,
    out: str | Path | None = None,
    seed: int = 0,
    protocol: str = "valid",
    device: str = "cpu",
    resume: bool = False,
    config: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    preset: str | None = None,
    observe: phases.Observer | None = None,
    progress: Progress | None = None,
    on_start: Callable[[Path], None] | None = None,
    **changes: Any,
) -> AnyRun:
    """Trains, selects, evaluates and writes a run directory.

    ``changes`` are settings of the recipe and go over ``config``, which goes over the recipe's preset for the data set.
    ``options`` go to the reader and the split (``user_col``, ``rule``, ``min_rating``, ...; of an attributed graph ``num_clusters``).
    ``resume`` goes on with the run in ``out``, which must have the same recipe, settings and data; a finished one is returned as it
    is. Only ``epochs`` may change, for a finished one too unless its patience was spent: to more than it has trained.
    ``preset`` names the data set whose preset is taken where ``data`` is a Split. ``observe`` hears of steps and epochs, ``progress``
    wraps the blocks of a ranking as ``tqdm`` does, ``on_start`` is told the run's directory before training.

    Raises:
        ValueError: an unknown recipe, setting, protocol or metric; bad data; a directory in use, or of another run.
        FloatingPointError: training diverged.
    """
    began = time.perf_counter()
    seed = whole(seed, "seed")
    module = find(recipe)
    if module.KIND == "sequential":
        return sequence_run.train(
            recipe, data, out=out, seed=seed, protocol=protocol, device=device, resume=resume, config=config, options=options,  # type: ignore[arg-type]
            preset=preset, observe=observe, progress=progress, on_start=on_start, **changes,
        )  # fmt: skip
    if module.KIND in pretrain.PROTOCOLS:
        return pretrain.train(
            recipe, data, out=out, seed=seed, protocol=protocol, device=device, resume=resume, config=config, options=options,  # type: ignore[arg-type]
            preset=preset, observe=observe, on_start=on_start, **changes,
        )  # fmt: skip
    made, key = load_data(data, protocol, **(options or {}))
    key = preset or key
    chosen, sources = configure(module, {**defaults(module, protocol, key), "config": config or {}, "set": changes})
    plan = protocols.plan(made, protocol)
    about = {
        "format": rundir.FORMAT,
        "recipe": recipe,
        "dataset": made.name,
        "seed": seed,
        "protocol": protocol,
        "preset": key,
        "settings": settings(chosen),
        "sources": sources,
        "split": {"rule": made.rule, "seed": made.split_seed},
        "fingerprint": of_split(made),
        **rundir.digests(module, chosen),
        **rundir.given(data, options),
    }
    directory = claims.claim(out, about, resume)
    if resume and claims.is_done(directory, about):
        return Run(directory)
    loaded = time.perf_counter() - began
    began = time.perf_counter()
    closed = "restore" in vars(module)
    if closed:
        if protocols.find(protocol).refits_on:  # there is no epoch to choose first
            plan = protocols.refit_plan(made, protocol)
        scorer = module.build(chosen, plan.train, rng=Streams(seed)["init"])
    else:
        phases.check(chosen)
        first = phases.start(module, chosen, plan.train, seed, device)
    built = time.perf_counter() - began
    directory = claims.write_beginning(out, about, device, resume)
    if not resume or not (directory / "log.safetensors").exists():
        rundir.write_log(directory, made.parts)
    if on_start is not None:
        on_start(directory)
    if closed:
        outcome = _Outcome(scorer, None, scorer.state(), plan, 0, 0, None, built, 0.0)
    else:
        outcome = _train_model(module, chosen, made, first, plan, directory, seed, device, observe, progress)
    return _finish(directory, about, outcome, loaded, progress)


def defaults(module: ModuleType, protocol: str, preset: str | None) -> dict[str, Mapping[str, Any]]:
    """The layers of settings under what a user gives: the protocol's, then the recipe's for a data set."""
    select = protocols.find(protocol).select
    named = {"select": select} if select and "select" in module.Config.__dataclass_fields__ else {}
    return {"protocol": named, "preset": preset_of(module, preset)}


class _Outcome(NamedTuple):
    scorer: Any
    learned: DotScorer | None  # None: a closed form, which has no embeddings
    state: dict[str, Tensor]
    plan: Plan
    epochs: int
    steps: int
    best_epoch: int | None
    seconds: float
    rank_seconds: float


def _train_model(
    module: ModuleType,
    config: Any,
    made: Split,
    first: phases.Phase,
    plan: Plan,
    directory: Path,
    seed: int,
    device: str,
    observe: phases.Observer | None,
    progress: Progress | None,
) -> _Outcome:
    phases.warm_up(module, config, first)
    phases.run(first, plan, config, directory, epochs=config.epochs, observe=observe, progress=progress)
    p = first.progress
    last = first
    seconds, steps, ranking, epochs = p.seconds, p.steps, p.rank_seconds, p.epoch
    if protocols.find(plan.protocol).refits_on:
        plan = protocols.refit_plan(made, plan.protocol)
        last = phases.start(module, config, plan.train, seed, device)
        # Lines of the second phase follow those of the first.
        last.progress = replace(last.progress, lines=p.lines)
        phases.run(last, plan, config, directory, epochs=p.best_epoch, name="-refit", observe=observe)
        seconds, steps = seconds + last.progress.seconds, steps + last.progress.steps
    learned = phases.scorer(last.model, last.inputs)
    scorer = scorer_of(module, config, plan.train, learned)
    return _Outcome(scorer, learned, last.model.state_dict(), plan, epochs, steps, p.best_epoch, seconds, ranking)


def _finish(directory: Path, about: dict[str, Any], outcome: _Outcome, loaded: float, progress: Progress | None) -> Run:
    """Weights, metrics for each user and the result."""
    plan = outcome.plan
    rundir.write_tensors(directory / "model.safetensors", outcome.state)
    began = time.perf_counter()
    metrics: dict[str, dict[str, float]] = {}
    users = {}
    if plan.test is not None:
        report = test_report(outcome.scorer, plan, progress)
        metrics["test"], users["test"] = report.means, len(report.users)
        if cold := num_cold(plan, report.users):
            told = f"{cold} of {len(report.users)} test users have nothing in the part that is trained on; they are ranked as good as blindly"
            warnings.warn(told, stacklevel=2)
        frame = pd.DataFrame({"user": plan.train.user_ids.ids[report.users], **report.per_user})
        rundir.atomically(directory / "per_user.parquet", lambda part: frame.to_parquet(part, index=False))
    if plan.select is not None and plan.selected_on == "valid":
        chosen = phases.select_report(outcome.scorer, plan, about["settings"].get("select", "ndcg@20"))
        metrics["valid"], users["valid"] = chosen.means, len(chosen.users)
    ranked = time.perf_counter() - began
    if outcome.learned is not None:
        metrics["embedding"] = geometry.of_pairs(outcome.learned.users, outcome.learned.items, plan.train.matrix)
    rundir.write_result(
        directory, about, epochs=outcome.epochs, steps=outcome.steps, best_epoch=outcome.best_epoch,
        selected_on=plan.selected_on, metrics=metrics, users=users,
        seconds={"load": loaded, "train": outcome.seconds, "rank": outcome.rank_seconds + ranked},
    )  # fmt: skip
    return Run(directory)
