"""Settings searched on validation: an Optuna study of a recipe on data whose test part chooses nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from graphcl import study as studies
from graphcl.data import protocol as protocols
from graphcl.data.source import expanded
from graphcl.interactions import whole
from graphcl.phase import Observer
from graphcl.recipes import space as spaces
from graphcl.recipes.configure import find, settings
from graphcl.study import Tuned
from graphcl.task import Asked, Scored, Task, task
from graphcl.versions import check_device


def tune(
    recipe: str = "xsimgcl",
    data: Any = "ml-100k",
    *,
    trials: int,
    out: str | Path | None = None,
    seed: int = 0,
    protocol: str = "valid",
    metric: str | None = None,
    space: Mapping[str, spaces.Bounds] | None = None,
    prune: bool = True,
    timeout: float | None = None,
    device: str = "cpu",
    options: Mapping[str, Any] | None = None,
    on_trial: Callable[[Tuned | None, Mapping[str, Any]], None] | None = None,
    **fixed: Any,
) -> Tuned:
    """Searches a recipe's settings until the study in ``out`` has ``trials`` trials, and keeps the best.

    Once the data are read the test part leaves the split. Each trial trains with ``seed`` and early stopping as a run does, on
    what ``protocol`` trains on, and its score is the validation ``metric`` of its best epoch (default: what the recipe selects on).
    Recipes for graphs are scored by the probe on validation nodes ("ma_f1", "mi_f1"), or where nodes have attributes alone by the
    modularity of the clusters; test nodes are not looked at.
    ``space`` goes over the recipe's ``SPACE``: bounds as there. ``fixed`` settings are searched no longer. Trial 0 is the
    recipe's own settings (or preset) as far as they lie in the space; the others are drawn by TPE. With ``prune``, an epoch whose
    trial so far is below the median of the complete trials at that epoch ends it. After ``timeout`` seconds no trial begins.
    ``on_trial`` is told of each finished trial.

    ``out`` (default ``runs/tune-RECIPE-DATA``) holds ``study.db`` (SQLite), ``trials.csv`` and ``best.json``, whose settings
    ``train(config=...)`` takes; no weights. Each trial's draws depend on ``seed`` and on the trials before it alone, so a study
    that was interrupted goes on as if it had not been: the trial that was cut off is marked as failed and repeated.

    *Stability: experimental.*

    Raises:
        ImportError: Optuna is not installed.
        ValueError: a protocol without validation, an unknown setting, an impossible range, a directory in use or of another
            study, or no trial that came to an end.
    """
    optuna = _optuna()
    trials, seed = whole(trials, "trials", 1), whole(seed, "seed")
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout must be above 0 seconds, got {timeout}")
    if protocols.find(protocol).selects_on != "valid":
        raise ValueError(f"tuning is on validation alone, and protocol {protocol!r} has none; take valid, refit or another")
    check_device(device)
    module = find(recipe)
    asked = Asked(recipe, module, data, protocol, metric, options or {}, fixed, seed, device)
    made = task(asked)
    searched = _space(module, recipe, space or {}, fixed)
    about = {
        "recipe": recipe, "dataset": made.dataset, "fingerprint": made.fingerprint, "protocol": protocol, "metric": made.metric,
        "seed": seed, "prune": prune, "space": searched, "settings": settings(made.base),
    }  # fmt: skip
    directory = Path("runs") / f"tune-{recipe}-{made.dataset}" if out is None else expanded(out)
    with studies.opened(optuna, directory, about) as study:
        began = time.monotonic()
        while len(studies.ended(optuna, study)) < trials and (timeout is None or time.monotonic() - began < timeout):
            attributes = _trial(optuna, study, made, searched, prune, seed)
            tuned = studies.written(optuna, study, directory, about)
            if on_trial is not None:
                on_trial(tuned, attributes)
        tuned = studies.written(optuna, study, directory, about)
        if tuned is None:
            told = [trial.user_attrs["error"] for trial in studies.ended(optuna, study)]
            raise ValueError(f"no trial came to an end{f'; of the last one: {told[-1]}' if told else ''}")
    return tuned


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ImportError("tuning needs Optuna: pip install 'graphcl[tune]'") from None
    return optuna


def _space(module: ModuleType, recipe: str, given: Mapping[str, spaces.Bounds], fixed: Mapping[str, Any]) -> dict[str, Any]:
    """What is searched: the recipe's space, under what was given, without what is fixed."""
    both = sorted(set(given) & set(fixed))
    if both:
        raise ValueError(f"setting {both[0]!r} is both fixed and searched")
    if "select" in given:
        raise ValueError("'select' is what trials are scored by; give it as the metric")
    if "seen" in given:
        raise ValueError("'seen' says which ranking trials are scored on, so their scores would not compare; fix it")
    merged = {**spaces.stated(module), **spaces.checked(module, given)}
    # In one order, for draws follow it.
    found = {f.name: merged[f.name] for f in fields(module.Config) if f.name in merged and f.name not in fixed}
    if not found:
        raise ValueError(f"nothing of {recipe} is left to search; state ranges or choices (--space KEY=LOW:HIGH)")
    return found


# --- one trial --------------------------------------------------------------------------------------------------------------


def _trial(optuna: Any, study: Any, task: Task, searched: Mapping[str, spaces.Bounds], prune: bool, seed: int) -> dict[str, Any]:
    """Draws settings, trains, and tells the study how it ended."""
    number = len(studies.ended(optuna, study))
    study.sampler = optuna.samplers.TPESampler(seed=_drawn(seed, number))
    distributions = {key: _distribution(optuna, bounds) for key, bounds in searched.items()}
    if number == 0 and not study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,)):
        study.enqueue_trial(_inside(task.base, searched))
    trial = study.ask(distributions)
    params = studies.drawn(trial, searched)
    found: dict[str, Any] = {"seed": seed, "score": None, "best_epoch": None, "epochs": 0, "error": ""}

    def observe(kind: str, what: dict[str, Any]) -> None:
        if kind == "epoch":
            found["epochs"] = what["epoch"]
            score = task.heard(what)
            if score is not None:
                trial.report(score, what["epoch"])
                if found["score"] is None or score > found["score"]:
                    found.update(score=score, best_epoch=what["epoch"])
                if prune and trial.should_prune():
                    raise optuna.TrialPruned

    began = time.perf_counter()
    states = optuna.trial.TrialState
    try:
        config = replace(task.base, **params)
        found["score"], found["best_epoch"] = _score(task, config, observe)
        found["outcome"] = "complete"
    except optuna.TrialPruned:
        found["outcome"] = "pruned"
    except FloatingPointError as error:
        found |= {"outcome": "diverged", "error": str(error)}
    except ValueError as error:  # settings that the recipe refuses together
        found |= {"outcome": "refused", "error": str(error)}
    except BaseException:
        study.tell(trial, state=states.FAIL)
        raise
    found["seconds"] = time.perf_counter() - began
    for key, value in found.items():
        trial.set_user_attr(key, value)
    if found["outcome"] == "complete":
        study.tell(trial, found["score"])
    else:
        study.tell(trial, state=states.PRUNED)
    return {"number": number, **found, "params": params}


def _score(task: Task, config: Any, observe: Observer) -> Scored:
    score, epoch = task.score(config, observe)
    if not math.isfinite(score):
        raise ValueError(f"validation {task.metric} is {score}")
    return score, epoch


def _drawn(seed: int, number: int) -> int:
    """The sampler's seed for one trial: a sampler's own state does not outlive its process."""
    return int(np.random.SeedSequence((seed % 2**64, number)).generate_state(1)[0])


def _distribution(optuna: Any, bounds: spaces.Bounds) -> Any:
    kinds = optuna.distributions
    if isinstance(bounds, list):
        return kinds.CategoricalDistribution([studies.stored(choice) for choice in bounds])
    kind = kinds.IntDistribution if isinstance(bounds[0], int) else kinds.FloatDistribution
    return kind(bounds[0], bounds[1], log="log" in bounds)


def _inside(base: Any, searched: Mapping[str, spaces.Bounds]) -> dict[str, Any]:
    """The settings of ``base`` that may be searched, where they lie in the space."""
    found = {}
    for key, bounds in searched.items():
        value = getattr(base, key)
        if value in bounds if isinstance(bounds, list) else value is not None and bounds[0] <= value <= bounds[1]:
            found[key] = studies.stored(value)
    return found
