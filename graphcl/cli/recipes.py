"""The verb that lists recipes, or explains one."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import json
import textwrap
import tokenize
import typing
from types import ModuleType
from typing import Annotated, Any

import typer

from graphcl.cli.options import Json


def recipes(
    name: Annotated[str | None, typer.Argument(help="Explain the settings of one, or of a module of your own.")] = None,
    as_json: Json = False,
) -> None:
    """List the recipes and their settings."""
    from graphcl.recipes import RECIPES
    from graphcl.recipes.configure import find

    if name and not as_json:
        _explain(find(name))
        return
    found = {each: _told(find(each)) for each in ([name] if name else RECIPES)}
    if as_json:
        print(json.dumps(found))
        return
    for each, about in found.items():
        print(f"{each:16}{about['about']}")
        print(" " * 16 + ", ".join(f"{key}={value}" for key, value in about["settings"].items()))


def _told(module: ModuleType) -> dict[str, Any]:
    return {
        "about": next(iter((module.__doc__ or "").strip().splitlines()), ""),
        "settings": {field.name: field.default for field in dataclasses.fields(module.Config)},
        "presets": list(vars(module).get("PRESETS", {})),
    }


def _explain(module: ModuleType) -> None:
    print((module.__doc__ or "").strip() + "\n")
    types, comments = typing.get_type_hints(module.Config), _comments(module.Config)
    for field in dataclasses.fields(module.Config):
        choices = typing.get_args(types[field.name]) if typing.get_origin(types[field.name]) is typing.Literal else ()
        told = [", ".join(str(choice) for choice in choices), comments.get(field.name, "")]
        print(f"{f'{field.name}={field.default}':32}{'; '.join(part for part in told if part)}".rstrip())
    for data, settings in vars(module).get("PRESETS", {}).items():
        print(f"\non {data}: {', '.join(f'{key}={value}' for key, value in settings.items())}")


def _comments(config: type) -> dict[str, str]:
    """What stands behind each field where it is declared; of a field declared anew, the last."""
    found: dict[str, str] = {}
    for part in reversed(config.__mro__):
        if not dataclasses.is_dataclass(part):
            continue
        source = textwrap.dedent(inspect.getsource(part))
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        behind = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
        body = typing.cast(ast.ClassDef, ast.parse(source).body[0]).body
        for line in body:
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                told = [behind[number] for number in range(line.lineno, (line.end_lineno or line.lineno) + 1) if number in behind]
                found |= {line.target.id: " ".join(told)} if told else {}
    return found
