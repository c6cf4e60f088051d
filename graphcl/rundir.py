"""The files of a run directory. Each is written whole to a neighbour and then renamed; none is a pickle."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from graphcl.data.source import expanded, unfinished, write_atomically
from graphcl.interactions import Interactions, Vocabulary
from graphcl.recipes.configure import configure, find

FORMAT = 1  # of the directory; raised when an old one could be misread


def atomically(path: Path, write: Callable[[Path], object]) -> None:
    """A crash or a full disk in ``write`` leaves the old file as it was; the new one is on the disk before it takes the name."""

    def written(part: Path) -> None:
        part.touch()
        mode = part.stat().st_mode
        write(part)
        part.chmod(mode)  # save_file leaves a file that only its owner may read
        with open(part, "rb") as file:
            os.fsync(file.fileno())

    path.parent.mkdir(parents=True, exist_ok=True)  # outside: a parent that is a file is the caller's mistake, and is named
    try:
        write_atomically(path, written)
    except (OSError, SafetensorError) as error:  # safetensors has an error of its own for a full disk
        number, told = (error.errno, error.strerror) if isinstance(error, OSError) else (None, None)
        raise OSError(number, f"{path} could not be written: {told or error}") from error


def write_json(path: Path, value: Any) -> None:
    atomically(path, lambda part: part.write_text(json.dumps(value, indent=1) + "\n"))


class Held(dict[str, Any]):
    """What a file of a run holds; ValueError for what is asked of it and is not there."""

    def __init__(self, path: Path, held: Mapping[str, Any]):
        super().__init__(held)
        self.path = path

    def __missing__(self, key: str) -> Any:
        raise ValueError(f"{self.path}: holds no {key!r}; the file is another than it should be")


def read_json(path: Path) -> Held:
    """Raises ValueError for a file that is missing or holds no JSON object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path.parent} is not a complete run: {path.name} is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON ({error})") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: a JSON object is needed, not {type(found).__name__}")
    return Held(path, found)


def read_config(directory: Path) -> Any:
    """Raises FileNotFoundError where there is no run, ValueError for one of another format."""
    if not directory.is_dir():
        raise FileNotFoundError(f"there is no run at {directory}")
    config = read_json(directory / "config.json")
    if config.get("format") != FORMAT:
        raise ValueError(f"{directory}: written in format {config.get('format')}, this version reads {FORMAT}")
    return config


def kind_of(directory: Path) -> str:
    """The kind of the recipe whose run this is; "general" where nothing says so, or there is no run."""
    path = directory / "config.json"
    return read_json(path).get("kind", "general") if path.exists() else "general"


def inside(directory: Path) -> set[Path]:
    """What is in a directory, but for the lock and what a killed process did not finish writing."""
    return {*directory.iterdir()} - {directory / "lock", *unfinished(directory)}


def read_result(directory: Path) -> Any:
    """Raises ValueError for a run that has not finished."""
    if not (directory / "result.json").exists():
        raise ValueError(f"the run at {directory} has not finished; go on with it by resume (--resume --out {directory})")
    found = read_json(directory / "result.json")
    found["run"] = str(directory)  # it may have moved
    return found


def write_result(
    directory: Path,
    about: dict[str, Any],
    *,
    epochs: int,
    steps: int,
    best_epoch: int | None,
    selected_on: str | None,
    metrics: dict[str, dict[str, float]],
    seconds: dict[str, float],
    **more: Any,
) -> None:
    """The last file written, which says that the run is whole. Without a best epoch (None, or 0: none was trained) nothing chose one."""
    best_epoch = best_epoch or None
    selected_on = selected_on if best_epoch else None
    told = {key: about[key] for key in ("recipe", "dataset", "seed", "protocol")}
    counted = {"epochs": epochs, "steps": steps, "best_epoch": best_epoch, "selected_on": selected_on}
    result = {**told, **counted, **more, "metrics": metrics, "seconds": seconds, "run": str(directory)}
    write_json(directory / "result.json", result)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any] | None = None) -> None:
    """Tensors by name, and a JSON-able ``about`` in the same file, so that the two never disagree."""
    whole = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    atomically(path, lambda part: save_file(whole, part, metadata={"about": json.dumps(about or {})}))


def read_tensors(path: Path) -> tuple[Held, Held]:
    """Raises ValueError for a file that is missing, cut off or not safetensors."""
    with _opened(path) as (file, about):
        return Held(path, {name: file.get_tensor(name) for name in file.keys()}), about  # noqa: SIM118


def read_about(path: Path) -> Held:
    """What :func:`write_tensors` wrote beside the tensors, which stay on the disk."""
    with _opened(path) as (_, about):
        return about


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Held]]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file, Held(path, json.loads((file.metadata() or {}).get("about", "{}")))
    except FileNotFoundError:
        raise ValueError(f"{path.parent} is not a complete run: {path.name} is missing") from None
    except SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from None


def write_log(directory: Path, parts: Mapping[str, Interactions]) -> None:
    """The pairs of every part of a split and the ids of its rows, so that a run stands on its own."""
    some = next(iter(parts.values()))
    write_ids(directory, users=some.user_ids.ids, items=some.item_ids.ids)
    tensors = {}
    for name, part in parts.items():
        tensors[f"{name}.users"] = torch.from_numpy(np.asarray(part.users, dtype=np.int32))
        tensors[f"{name}.items"] = torch.from_numpy(np.asarray(part.items, dtype=np.int32))
    write_tensors(directory / "log.safetensors", tensors, {"name": some.name})


def write_ids(directory: Path, **ids: np.ndarray) -> None:
    """A file of the ids of each kind of row: ``users``, ``items``, ``nodes``."""
    import pandas as pd

    for name, values in ids.items():
        frame = pd.DataFrame({"id": values})
        atomically(directory / f"{name}.parquet", lambda part, frame=frame: frame.to_parquet(part, index=False))  # type: ignore[misc]


def read_ids(directory: Path, name: str) -> np.ndarray:
    """Raises ValueError where the file is missing."""
    import pandas as pd

    path = directory / f"{name}.parquet"
    if not path.exists():
        raise ValueError(f"{directory} is not a complete run: {path.name} is missing")
    ids = pd.read_parquet(path)["id"]
    return ids.to_numpy(dtype=np.int64 if ids.dtype.kind == "i" else object)


def read_vocabularies(directory: Path) -> tuple[Vocabulary, Vocabulary]:
    """Of users and of items."""
    return Vocabulary(read_ids(directory, "users")), Vocabulary(read_ids(directory, "items"))


def read_log(directory: Path) -> dict[str, Interactions]:
    users, items = read_vocabularies(directory)
    tensors, about = read_tensors(directory / "log.safetensors")
    names = dict.fromkeys(key.partition(".")[0] for key in sorted(tensors))
    return {
        name: Interactions(tensors[f"{name}.users"].numpy(), tensors[f"{name}.items"].numpy(), users, items, name=about["name"])
        for name in names
    }


def append_line(path: Path, value: Any) -> None:
    with open(path, "a") as file:
        file.write(json.dumps(value) + "\n")
        file.flush()
        os.fsync(file.fileno())  # a checkpoint that counts this line is written next


def log_lines(directory: Path) -> list[dict[str, Any]]:
    """What the run has logged, an entry for each epoch; nothing where it has no epochs."""
    path = directory / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def keep_lines(path: Path, count: int) -> None:
    """Cuts a log of lines back to its first ``count``: a resumed run writes the rest again."""
    if path.exists():
        lines = path.read_text().splitlines(keepends=True)[:count]
        atomically(path, lambda part: part.write_text("".join(lines)))


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """What differs, for an error's text; None stands for what one of them has not."""
    return ", ".join(f"{key} {old.get(key)!r} -> {new.get(key)!r}" for key in {**old, **new} if old.get(key) != new.get(key))


def digests(recipe: ModuleType, config: Any) -> dict[str, dict[str, str]]:
    """For ``about``: sha256 of the files that settings name, where the recipe says which (``files(config)``: paths by setting)."""
    named = recipe.files(config) if "files" in vars(recipe) else {}
    found = {key: expanded(path) for key, path in named.items() if path}
    # A file that is missing is the recipe's to refuse.
    sums = {key: hashlib.sha256(path.read_bytes()).hexdigest() for key, path in found.items() if path.is_file()}
    return {"files": sums} if sums else {}


def given(data: Any, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """For ``about``: the name or path of the data and the options it was read and split with, where there are some; columns apart."""
    found: dict[str, Any] = {"data": str(data)} if isinstance(data, (str, Path)) else {}
    options = {key: value for key, value in (options or {}).items() if value is not None}
    named = {key: str(value) for key, value in options.items() if key.endswith("_col")}
    rest = {key: _plain(value) for key, value in options.items() if key not in named}
    return found | ({"columns": named} if named else {}) | ({"options": rest} if rest else {})


def _plain(value: Any) -> Any:
    """What JSON can hold, and reads as it wrote it."""
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, (str, bool, int, float)) else str(value)


class Finished:
    """A finished run of any kind, read from its directory."""

    def __init__(self, path: str | Path):
        self.path = expanded(path)
        self.config: dict[str, Any] = read_config(self.path)

    @cached_property
    def result(self) -> dict[str, Any]:
        return read_result(self.path)

    @cached_property
    def recipe(self) -> ModuleType:
        return find(self.config["recipe"])

    @cached_property
    def _settings(self) -> Any:
        return configure(self.recipe, {"run": self.config["settings"]})[0]
