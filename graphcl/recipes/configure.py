"""From names to a recipe and its settings."""

from __future__ import annotations

import dataclasses
import importlib
import json
import typing
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from graphcl.data.nearest import nearest
from graphcl.recipes import RECIPES


def find(name: str) -> ModuleType:
    """The recipe module of a registered name, or of a dotted path (``mypackage.myrecipe``).

    Raises:
        ValueError: no such recipe; the nearest name is told.
    """
    if not isinstance(name, str):
        raise ValueError(f"a recipe is given by its name or dotted path, which a run remembers, not as a {type(name).__name__}")
    path = RECIPES.get(name, name)
    if "." not in path or not all(part.isidentifier() for part in path.split(".")):
        raise ValueError(f"unknown recipe {name!r}{nearest(name, RECIPES)}; known: {', '.join(RECIPES)}")
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{path}.".startswith(f"{error.name}."):
            raise ValueError(f"recipe {name!r}: no module named {error.name!r} can be imported") from None
        raise
    made = "embed" if "embed" in vars(module) else "build"  # a closed form on a graph has nothing to build
    for part in ("KIND", "Config", made):
        if part not in vars(module):
            raise ValueError(f"{path} is not a recipe: it lacks {part}")
    return module


def preset_of(recipe: ModuleType, name: str | None) -> Mapping[str, Any]:
    """What the recipe sets for a data set (``kind/name``); nothing where it has no such preset."""
    return vars(recipe).get("PRESETS", {}).get(name, {})


def configure(recipe: ModuleType, layers: Mapping[str, Mapping[str, Any]]) -> tuple[Any, dict[str, str]]:
    """The recipe's Config with each layer's settings laid over the one before, and where each changed one came from.

    Raises:
        ValueError: an unknown setting (the nearest is told), a value of the wrong type, a negative weight, or a negative whole
            number where the recipe's own is none.
    """
    types = typing.get_type_hints(recipe.Config)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for layer, settings in layers.items():
        for key, value in settings.items():
            if key not in types:
                short = recipe.__name__.rpartition(".")[2]
                raise ValueError(f"unknown setting {key!r} of {short}{nearest(key, types)}; known: {', '.join(types)}")
            values[key] = cast(key, value, types[key])
            sources[key] = layer
    usual: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(recipe.Config)}
    for key, value in values.items():
        counts = types[key] is int and not (isinstance(usual[key], int) and usual[key] < 0)
        if isinstance(value, (int, float)) and value < 0 and (counts or key.endswith("weight")):
            raise ValueError(f"setting {key!r} must be 0 or more, got {value}")
    return recipe.Config(**values), sources


def cast(key: str, value: Any, kind: Any) -> Any:
    """``value`` (perhaps text from a command line) as the field's type."""
    options = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        if value not in options:
            raise ValueError(f"setting {key!r} must be one of {', '.join(map(str, options))}, got {value!r}")
        return value
    if type(None) in options:
        if value is None or (isinstance(value, str) and value.lower() in ("none", "null", "")):
            return None
        (kind,) = [o for o in options if o is not type(None)]
    if kind is bool:
        words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
        if str(value).lower() in words:
            return words[str(value).lower()]
    elif kind is int:
        number = _number(value)
        if number is not None and number == int(number):
            return int(number)
    elif kind is float:
        number = _number(value)
        if number is not None:
            return float(number)
    elif kind is str:
        return str(value)
    elif kind is tuple:
        if isinstance(value, str):
            text = value.strip()
            text = text.replace("(", "[").replace(")", "]") if text.startswith(("[", "(")) else f"[{text}]"
            value = _parsed(key, text, '["a", "b"] or 1,2')
        return tuple(value) if isinstance(value, (list, tuple)) else (value,)
    else:
        return _parsed(key, value, '{"a": 1}') if isinstance(value, str) else value
    raise ValueError(f"setting {key!r} must be {'a number' if kind is float else kind.__name__}, got {value!r}")


def _parsed(key: str, text: str, example: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise ValueError(f"setting {key!r} must be JSON such as {example}, got {text!r}") from None


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if number == number and abs(number) != float("inf") else None


def settings(config: Any) -> dict[str, Any]:
    """A Config as plain JSON-able values; lists for tuples, as they come back from a file."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(config).items()}
