"""A study's directory: the database of trials, what they are about, and what is written of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from graphcl import claims, rundir

_STARTUP = 5  # complete trials before the median of any is trusted
_WARMUP = 5  # the first epoch at which a trial is compared with it


@dataclass(frozen=True)
class Tuned:
    """A study as far as it has come. ``best`` is what stands in ``best.json``."""

    path: Path
    best: dict[str, Any]
    trials: pd.DataFrame  # a row each: outcome, score (best so far, if it was cut short), epochs, seconds, what was drawn, error


@contextmanager
def opened(optuna: Any, directory: Path, about: Mapping[str, Any]) -> Iterator[Any]:
    """The study in ``directory``, a new one where there is none, for one process at a time. Trials that were cut off are marked."""
    import sqlalchemy.exc

    file = directory / "study.db"
    if directory.exists() and not file.exists() and (not directory.is_dir() or rundir.inside(directory)):
        raise ValueError(f"{directory} exists and holds no study; choose another --out")
    directory.mkdir(parents=True, exist_ok=True)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with claims.alone(directory, "tuned"):
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
            raise ValueError(f"{directory} holds a study with another {key} ({rundir.changes(was, value)}); choose another --out")
        raise ValueError(f"{directory} holds a study with {key} {was!r}, not {value!r}; choose another --out")


def stored(choice: Any) -> Any:
    """A choice as the database keeps it, which gives a tuple back as a list and then takes it for another."""
    return json.dumps(choice) if isinstance(choice, (tuple, list)) else choice


def drawn(trial: Any, space: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a trial."""

    def read(key: str, value: Any) -> Any:
        return next(choice for choice in space[key] if stored(choice) == value) if isinstance(space[key], list) else value

    return {key: read(key, value) for key, value in trial.params.items()}


def ended(optuna: Any, study: Any) -> list[Any]:
    """The trials that count, in order; those that were cut off do not."""
    states = optuna.trial.TrialState
    return study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED))


def written(optuna: Any, study: Any, directory: Path, about: Mapping[str, Any]) -> Tuned | None:
    """Writes the table of trials, and the best one if any is complete."""
    counted = ended(optuna, study)
    columns = ("outcome", "score", "best_epoch", "epochs", "seconds", "seed")

    def searched(trial: Any) -> dict[str, Any]:  # epochs may be drawn, which trained fewer
        return {f"{key} drawn" if key in columns else key: value for key, value in drawn(trial, about["space"]).items()}

    rows = [
        {"trial": n, **{c: t.user_attrs[c] for c in columns}, **searched(t), "error": t.user_attrs["error"]}
        for n, t in enumerate(counted)
    ]
    frame = pd.DataFrame(rows).astype({"best_epoch": "Int64"}) if rows else pd.DataFrame()
    rundir.atomically(directory / "trials.csv", lambda part: frame.to_csv(part, index=False))
    complete = [n for n, trial in enumerate(counted) if trial.user_attrs["outcome"] == "complete"]
    if not complete:
        return None
    first = max(complete, key=lambda n: (counted[n].value, -n))
    best = {
        **{key: about[key] for key in ("recipe", "dataset", "protocol", "metric", "seed", "fingerprint", "space")},
        "score": counted[first].value,
        "trial": first,
        "trials": len(counted),
        "best_epoch": counted[first].user_attrs["best_epoch"],
        "settings": {**about["settings"], **drawn(counted[first], about["space"])},
    }
    rundir.write_json(directory / "best.json", best)
    return Tuned(directory, best, frame)
