"""Settings searched on validation: an Optuna study of a recipe on a log, which never holds the test part."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from graphcl import phase as phases
from graphcl import rundir, runs
from graphcl.data import protocol as protocols
from graphcl.data.protocol import Plan
from graphcl.recipes import space as spaces
from graphcl.recipes.configure import configure, find, settings
from graphcl.streams import Streams

# Trials that are told as pruned teach the sampler to stay away, whatever ended them.
OUTCOMES = ("complete", "pruned", "diverged", "refused")
_STARTUP = 5  # complete trials before the median of any is trusted
_WARMUP = 5  # the first epoch at which a trial is compared with it


@dataclass(frozen=True)
class Tuned:
    """A study as far as it has come. ``best`` is what stands in ``best.json``."""

    path: Path
    best: dict[str, Any]
    trials: pd.DataFrame  # a row each: outcome, score (best so far, if it was cut short), epochs, seconds, what was drawn, error


class _Task(NamedTuple):
    """What all trials share."""

    recipe: ModuleType
    base: Any  # the Config that a trial changes
    plan: Plan  # without a test part
    metric: str
    seed: int
    device: str


def tune(
    recipe: str = "xsimgcl",
    data: runs.Data = "ml-100k",
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

    The test part leaves the split before anything else happens. Each trial trains with ``seed`` and early stopping as a run does, on
    what ``protocol`` trains on, and its score is the validation ``metric`` of its best epoch (default: what the recipe selects on).
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
    if trials < 1:
        raise ValueError(f"trials must be 1 or more, got {trials}")
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout must be above 0 seconds, got {timeout}")
    if protocol in ("as-published", "all"):
        raise ValueError(f"tuning is on validation alone, and protocol {protocol!r} has none; take valid, refit or another")
    module = find(recipe)
    if metric is not None:
        metric = phases.check_selection(metric)
        if "select" in fixed:
            raise ValueError("give the metric or the setting 'select', not both")
    made, key = runs.load_data(data, protocol, **(options or {}))
    made = replace(made, test=None)  # from here on nothing can see it
    trained = "restore" not in vars(module)
    chosen = {"select": metric} if trained and metric is not None else {}
    base, _ = configure(module, {**runs.defaults(module, protocol, key), "set": {**fixed, **chosen}})
    if trained:
        phases.check(base)
        if base.epochs < 1:
            raise ValueError("tuning needs an epoch or more")
    metric = phases.check_selection(base.select) if trained else metric or "ndcg@20"
    searched = _space(module, recipe, space or {}, fixed)
    about = {
        "recipe": recipe, "dataset": made.name, "fingerprint": runs.fingerprint(made), "protocol": protocol, "metric": metric,
        "seed": seed, "prune": prune, "space": searched, "settings": settings(base),
    }  # fmt: skip
    task = _Task(module, base, protocols.plan(made, protocol), metric, seed, device)
    directory = Path("runs") / f"tune-{recipe}-{made.name}" if out is None else Path(out)
    with _opened(optuna, directory, about) as study:
        began = time.monotonic()
        while len(_ended(optuna, study)) < trials and (timeout is None or time.monotonic() - began < timeout):
            attributes = _trial(optuna, study, task, searched, prune)
            tuned = _written(optuna, study, directory, about)
            if on_trial is not None:
                on_trial(tuned, attributes)
        tuned = _written(optuna, study, directory, about)
        if tuned is None:
            told = [trial.user_attrs["error"] for trial in _ended(optuna, study)]
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
    merged = {**spaces.stated(module), **spaces.checked(module, given)}
    found = {key: bounds for key, bounds in merged.items() if key not in fixed}
    if not found:
        raise ValueError(f"nothing of {recipe} is left to search; state ranges or choices (--space KEY=LOW:HIGH)")
    return found


# --- one trial --------------------------------------------------------------------------------------------------------------


def _trial(optuna: Any, study: Any, task: _Task, searched: Mapping[str, Any], prune: bool) -> dict[str, Any]:
    """Draws settings, trains, and tells the study how it ended."""
    number = len(_ended(optuna, study))
    study.sampler = optuna.samplers.TPESampler(seed=_drawn(task.seed, number))
    distributions = {key: _distribution(optuna, task.base, key, bounds) for key, bounds in searched.items()}
    if number == 0 and not study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.WAITING,)):
        study.enqueue_trial(_inside(task.base, distributions))
    trial = study.ask(distributions)
    found: dict[str, Any] = {"seed": task.seed, "score": None, "best_epoch": None, "epochs": 0, "error": ""}

    def observe(kind: str, what: dict[str, Any]) -> None:
        if kind == "epoch":
            found["epochs"] = what["epoch"]
            if "valid" in what:
                score = what["valid"][task.metric]
                trial.report(score, what["epoch"])
                if found["score"] is None or score > found["score"]:
                    found.update(score=score, best_epoch=what["epoch"])
                if prune and trial.should_prune():
                    raise optuna.TrialPruned

    began = time.perf_counter()
    states = optuna.trial.TrialState
    try:
        config = replace(task.base, **trial.params)
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
    return {"number": number, **found, "params": dict(trial.params)}


def _score(task: _Task, config: Any, observe: phases.Observer) -> tuple[float, int | None]:
    """The validation metric of the best epoch, and that epoch."""
    if "restore" in vars(task.recipe):
        scorer = task.recipe.build(config, task.plan.train, rng=Streams(task.seed)["init"])
        score, epoch = phases.select_report(scorer, task.plan, task.metric).means[task.metric], None
    else:
        phase = phases.start(task.recipe, config, task.plan, task.seed, task.device)
        phases.run(phase, task.plan, config, None, epochs=config.epochs, observe=observe)
        score, epoch = phase.progress.best_score, phase.progress.best_epoch
    if not math.isfinite(score):
        raise ValueError(f"validation {task.metric} is {score}")
    return score, epoch


def _drawn(seed: int, number: int) -> int:
    """The sampler's seed for one trial: a sampler's own state does not outlive its process."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


def _distribution(optuna: Any, base: Any, key: str, bounds: tuple | list) -> Any:
    kinds = optuna.distributions
    if isinstance(bounds, list):
        return kinds.CategoricalDistribution(bounds)
    kind = kinds.IntDistribution if isinstance(bounds[0], int) else kinds.FloatDistribution
    return kind(bounds[0], bounds[1], log="log" in bounds)


def _inside(base: Any, distributions: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of ``base`` that may be searched, where they lie in the space."""
    found = {}
    for key, distribution in distributions.items():
        value = getattr(base, key)
        if value in distribution.choices if "choices" in vars(distribution) else distribution.low <= value <= distribution.high:
            found[key] = value
    return found


# --- the study's directory --------------------------------------------------------------------------------------------------


@contextmanager
def _opened(optuna: Any, directory: Path, about: Mapping[str, Any]) -> Iterator[Any]:
    """The study in ``directory``, a new one where there is none, for one process at a time. Trials that were cut off are marked."""
    import sqlalchemy.exc

    file = directory / "study.db"
    if directory.exists() and not file.exists() and (not directory.is_dir() or {p.name for p in directory.iterdir()} - {"lock"}):
        raise ValueError(f"{directory} exists and holds no study; choose another --out")
    directory.mkdir(parents=True, exist_ok=True)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with _alone(directory):
            try:
                storage = optuna.storages.RDBStorage(f"sqlite:///{file}")
                pruner = optuna.pruners.MedianPruner(n_startup_trials=_STARTUP, n_warmup_steps=_WARMUP)
                study = optuna.create_study(
                    storage=storage, study_name="tune", direction="maximize", pruner=pruner, load_if_exists=True
                )
            except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, AssertionError) as error:
                raise ValueError(f"{file} can't be read as a study ({str(error).splitlines()[0]})") from None
            try:
                _same(study, directory, about)
                for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
                    study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
                yield study
            finally:
                storage.remove_session()
                storage.engine.dispose()
    finally:
        optuna.logging.set_verbosity(verbosity)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Raises ValueError while another process tunes there: each would take the other's trial for one that was cut off."""
    import fcntl

    with open(directory / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{directory} is being tuned by another process; choose another --out, or wait") from None
        yield


def _same(study: Any, directory: Path, about: Mapping[str, Any]) -> None:
    """Raises ValueError where the study is about something else: its scores would not compare."""
    wanted = json.loads(json.dumps(about))
    old = study.user_attrs.get("about")
    if old is None:
        study.set_user_attr("about", wanted)
        return
    for key, value in wanted.items():
        if old.get(key) == value:
            continue
        if key == "fingerprint":
            raise ValueError(f"{directory} was tuned on other data than {about['dataset']!r} as it is now; choose another --out")
        was = old.get(key)
        if isinstance(value, dict) and isinstance(was, dict):
            names = [name for name in {**was, **value} if was.get(name) != value.get(name)]
            told = ", ".join(f"{name} {was.get(name)!r} -> {value.get(name)!r}" for name in names)
            raise ValueError(f"{directory} holds a study with another {key} ({told}); choose another --out")
        raise ValueError(f"{directory} holds a study with {key} {was!r}, not {value!r}; choose another --out")


def _ended(optuna: Any, study: Any) -> list[Any]:
    """The trials that count, in order; those that were cut off do not."""
    states = optuna.trial.TrialState
    return study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED))


def _written(optuna: Any, study: Any, directory: Path, about: Mapping[str, Any]) -> Tuned | None:
    """Writes the table of trials, and the best one if any is complete."""
    ended = _ended(optuna, study)
    columns = ("outcome", "score", "best_epoch", "epochs", "seconds", "seed")
    rows = [
        {"trial": n, **{c: t.user_attrs[c] for c in columns}, **t.params, "error": t.user_attrs["error"]}
        for n, t in enumerate(ended)
    ]
    frame = pd.DataFrame(rows).astype({"best_epoch": "Int64"}) if rows else pd.DataFrame()
    rundir.atomically(directory / "trials.csv", lambda part: frame.to_csv(part, index=False))
    complete = [n for n, trial in enumerate(ended) if trial.user_attrs["outcome"] == "complete"]
    if not complete:
        return None
    first = max(complete, key=lambda n: (ended[n].value, -n))
    best = {
        **{key: about[key] for key in ("recipe", "dataset", "protocol", "metric", "seed", "fingerprint", "space")},
        "score": ended[first].value,
        "trial": first,
        "trials": len(ended),
        "best_epoch": ended[first].user_attrs["best_epoch"],
        "settings": {**about["settings"], **ended[first].params},
    }
    rundir.write_json(directory / "best.json", best)
    return Tuned(directory, best, frame)
