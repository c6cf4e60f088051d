"""Whose a run directory is: one process trains in it at a time, and only the run that it already holds."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

from graphcl import rundir
from graphcl.data.source import expanded, unfinished
from graphcl.phase import Progress
from graphcl.versions import check_device, versions


@contextmanager
def alone(directory: Path, told: str) -> Iterator[None]:
    """Raises ValueError while another process works in the directory: each would write over what the other has written."""
    import fcntl

    path = directory / "lock"
    held = False
    while True:
        directory.mkdir(parents=True, exist_ok=True)
        with open(path, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"{directory} is being {told} by another process; choose another --out, or wait") from None
            with suppress(FileNotFoundError):
                held = os.path.samestat(path.stat(), os.fstat(file.fileno()))
            if not held:  # who had it removed it after it was opened here: nobody else would see this lock
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


_Train = TypeVar("_Train", bound=Callable[..., Any])
_locks: ContextVar[ExitStack] = ContextVar("_locks")  # of the training function that is at work


def training(train: _Train) -> _Train:
    """The function has the run's directory to itself, from :func:`write_beginning` until it returns, on a device that torch can use."""

    @functools.wraps(train)
    def held(*args: Any, **named: Any) -> Any:
        check_device(named.get("device", "cpu"))
        with ExitStack() as locks:
            token = _locks.set(locks)
            try:
                return train(*args, **named)
            finally:
                _locks.reset(token)

    return held  # type: ignore[return-value]


def write_beginning(out: str | Path | None, about: dict[str, Any], device: str, resume: bool) -> Path:
    """The run's directory, claimed again, for another process may have taken it since the first :func:`claim`.

    Nothing is written before, so settings and data that are refused leave no directory behind.

    Raises:
        ValueError: another process trains there, or has.
    """
    locks = _locks.get()
    while True:
        directory = claim(out, about, resume)
        try:
            with ExitStack() as held:
                held.enter_context(alone(directory, "trained"))
                claim(directory, about, resume)  # it may have finished before it could be held
                locks.push(held.pop_all())
            break
        except ValueError:
            if out is not None:
                raise  # else: the next number
    for part in unfinished(directory):
        part.unlink()
    if not _asked_before(directory, about):
        for name in ("result.json", "checkpoint-refit.safetensors"):  # of fewer epochs
            (directory / name).unlink(missing_ok=True)
    rundir.write_json(directory / "config.json", about)
    rundir.write_json(directory / "versions.json", versions(device))
    return directory


def _asked_before(directory: Path, about: Mapping[str, Any]) -> bool:
    path = directory / "config.json"
    return path.exists() and rundir.read_json(path).get("settings") == about["settings"]


def is_done(directory: Path, about: Mapping[str, Any]) -> bool:
    """Whether a claimed run has its result, and no more epochs are asked of it."""
    return (directory / "result.json").exists() and _asked_before(directory, about)


def has_trained(directory: Path) -> bool:
    """Whether there is anything of a run that would be lost."""
    return any(
        (directory / name).exists() for name in ("metrics.jsonl", "checkpoint.safetensors", "model.safetensors", "result.json")
    )


def claim(out: str | Path | None, about: dict[str, Any], resume: bool) -> Path:
    """Where the run that ``about`` describes goes. An unnamed run never meets an older one; a named one only to resume it, or where the
    older one ended before its first evaluated epoch.

    Raises:
        ValueError: a directory in use, or of another run.
    """
    if out is None:
        if resume:
            raise ValueError("resume needs the run's directory (--out DIR)")
        base = Path("runs") / f"{about['recipe']}-{about['dataset']}-seed{about['seed']}"
        number, path = 1, base
        while path.exists():
            number += 1
            path = base.with_name(f"{base.name}-{number}")
        return path
    path = expanded(out)
    if not (path / "config.json").exists():
        if path.exists() and (not path.is_dir() or rundir.inside(path)):
            raise ValueError(f"{path} exists and is not a run; choose another --out")
        if resume:
            raise ValueError(f"there is no run to resume at {path}")
        return path
    if not resume:
        if not has_trained(path):
            return path
        raise ValueError(f"{path} holds a run already; resume it (--resume), delete it or choose another --out")
    old = rundir.read_json(path / "config.json")
    if "epochs" in old.get("settings", {}):
        # How far a run goes may change while its patience lasts: no epoch depends on how many follow.
        # The log may be a line ahead of the checkpoint, or end within one.
        wanted, trained = about["settings"].get("epochs"), Progress.read(path / "checkpoint.safetensors")
        if wanted is not None and wanted < trained.epoch:
            raise ValueError(f"{path} has trained {trained.epoch} epochs, more than epochs={wanted}")
        if wanted is not None and wanted != old["settings"]["epochs"] and trained.spent(old["settings"].get("patience", 0)):
            raise ValueError(f"{path} ended with epoch {trained.epoch}, its patience spent; epochs={wanted} changes nothing")
        old["settings"]["epochs"] = wanted
    for key in ("format", "recipe", "dataset", "seed", "protocol", "fingerprint", "settings", "files"):
        if key == "files" and (key not in old or key not in about):
            continue  # it names none
        if old.get(key) != about[key]:
            if key == "fingerprint":
                told = rundir.changes(old.get("options", {}), about.get("options", {}))
                raise ValueError(
                    f"{path} was trained on other data than {about['dataset']!r} as it is now{told and f' ({told})'}; it can't go on with these"
                )
            if key == "files":
                told = ", ".join(name for name in about[key] if old[key].get(name) != about[key][name])
                raise ValueError(f"{path} was trained with another file of {told} than it is now; it can't go on with this one")
            if key == "settings":
                told = rundir.changes(old[key], about[key])
                ended = "has finished with" if (path / "result.json").exists() else "has"
                raise ValueError(f"{path} {ended} other settings ({told}); resume it with the same, or choose another --out")
            raise ValueError(f"{path} has {key} {old.get(key)!r}, not {about[key]!r}; choose another --out")
    return path
