"""Options that several verbs share."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

RunDir = Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a finished run.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, last on stdout.")]
DataArg = Annotated[str, typer.Argument(metavar="DATA", help="A registered data set, or a file or folder.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Format = Annotated[str | None, typer.Option(help="Format of the file, where it can't be told.")]
UserCol = Annotated[str | None, typer.Option(help="Column of users.")]
ItemCol = Annotated[str | None, typer.Option(help="Column of items.")]
TimeCol = Annotated[str | None, typer.Option(help="Column of times.")]
RatingCol = Annotated[str | None, typer.Option(help="Column of ratings.")]
MinRating = Annotated[float | None, typer.Option(help="Keep rows with at least this rating.")]
KCore = Annotated[int | None, typer.Option(help="Keep users and items with at least this many partners, to a fixed point.")]
Rule = Annotated[str | None, typer.Option("--split", help="random, temporal, global_time, leave_one_out or all.")]
Ratios = Annotated[str | None, typer.Option(help="Of train, validation and test, such as 0.8,0.1,0.1.")]
Cuts = Annotated[
    str | None, typer.Option(help="Times at which validation and test begin, or test alone: 2024-01-01,2024-02-01 or seconds.")
]
Targets = Annotated[
    str | None, typer.Option(help="Of histories cut by time: first or all items of a user after a cut are guessed.")
]
NumClusters = Annotated[
    int | None, typer.Option(help="To look for in an attributed graph; by default as many as there are classes.")
]
SplitSeed = Annotated[int | None, typer.Option(help="Seed of the split; --seed never moves it.")]


def reads_log(*, split: bool = True, graphs: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A verb that reads a log: in place of its parameter ``options`` the command line has those of reading and, with ``split``, of
    splitting, with ``graphs`` also of attributed graphs, and the verb gets a dict of the ones that were given."""
    added: dict[str, Any] = {
        "format": Format, "user_col": UserCol, "item_col": ItemCol, "time_col": TimeCol, "rating_col": RatingCol,
        "min_rating": MinRating, "k_core": KCore,
    }  # fmt: skip
    if split:
        added |= {"split_rule": Rule, "split_seed": SplitSeed, "ratios": Ratios, "cuts": Cuts, "targets": Targets}
    if graphs:
        added["num_clusters"] = NumClusters

    def expanded(verb: Callable[..., None]) -> Callable[..., None]:
        parameters = []
        for each in inspect.signature(verb, eval_str=True).parameters.values():
            names = added if each.name == "options" else {each.name: each.annotation}
            default = None if each.name == "options" else each.default
            parameters += [
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
                for name, kind in names.items()
            ]

        @functools.wraps(verb)
        def command(**arguments: Any) -> None:
            values = {"rule" if name == "split_rule" else name: arguments.pop(name) for name in added}
            values |= {key: _numbers(key, values[key]) for key in ("ratios", "cuts") if values.get(key) is not None}
            verb(**arguments, options={key: value for key, value in values.items() if value is not None})

        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return expanded


def words(options: Mapping[str, Any]) -> list[str]:
    """The command line of what a verb was given by ``reads_log``."""
    found = []
    for key, value in options.items():
        told = ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
        found += [f"--{'split' if key == 'rule' else key.replace('_', '-')}", told]
    return found


def set_words(settings: Mapping[str, Any]) -> list[str]:
    """The command line of settings, as :func:`assignments` reads them."""
    return [
        word
        for key, value in settings.items()
        for word in ("--set", f"{key}={value if isinstance(value, str) else json.dumps(value)}")
    ]


def _numbers(key: str, text: str) -> tuple[float | str, ...]:
    """Of ``1,2``: numbers, and of cuts also dates."""
    found: list[float | str] = []
    for part in text.split(","):
        try:
            found.append(float(part))
        except ValueError:
            if key != "cuts":
                raise ValueError(f"--{key} takes numbers with commas between them, got {text!r}") from None
            found.append(part.strip())
    return tuple(found)


def assignments(texts: list[str] | None, *, reserved: Container[str], verb: str) -> dict[str, Any]:
    """The settings of ``--set KEY=VALUE``, but not the ``reserved`` names, which are arguments and no settings."""
    found = {}
    for text in texts or []:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ValueError(f"--set takes KEY=VALUE, got {text!r}")
        if key in reserved:
            raise ValueError(f"--set is for settings of the recipe, and {key!r} is none; see graphcl {verb} --help")
        found[key] = value.strip()
    return found


def torch_device(name: str) -> str:
    """What ``--device`` means on this machine."""
    import torch

    if name not in ("auto", "cpu") and not name.startswith("cuda"):
        raise ValueError(f"--device must be auto, cpu or cuda, got {name!r}")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError("--device cuda: torch finds no CUDA device here")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
