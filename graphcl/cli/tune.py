"""The verb that searches settings."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from graphcl.cli.options import (
    DataArg,
    Device,
    Json,
    assignments,
    reads_log,
    torch_device,
    words,
)


@reads_log(graphs=True)
def tune(
    recipe: Annotated[str, typer.Argument(help="A recipe, or the dotted path of a module that is one.")],
    data: DataArg,
    trials: Annotated[int, typer.Option(help="Of the study in all, those of earlier calls included.")] = 30,
    space: Annotated[
        list[str] | None,
        typer.Option("--space", metavar="KEY=LOW:HIGH[:log]|KEY=a,b,c", help="Bounds of a setting, over the recipe's own."),
    ] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting that is fixed.")] = None,
    metric: Annotated[str | None, typer.Option(help="On validation; by default what the recipe chooses its epoch by.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Of a trial, at most.")] = None,
    seed: Annotated[int, typer.Option(help="Of the search and of every trial.")] = 0,
    out: Annotated[Path | None, typer.Option(help="The study's directory; by default runs/tune-RECIPE-DATA.")] = None,
    protocol: Annotated[str, typer.Option(help="One with validation: valid, refit, lightgcnpp, recbole or sslrec.")] = "valid",
    timeout: Annotated[float | None, typer.Option(help="Seconds after which no further trial begins.")] = None,
    prune: Annotated[bool, typer.Option(help="End trials that stay below the median.")] = True,
    device: Device = "auto",
    as_json: Json = False,
    *,
    options: dict[str, Any],
) -> None:
    """Search a recipe's settings on validation; called again, the study goes on."""
    import inspect

    from graphcl import tune as tuning
    from graphcl.recipes.space import parse

    settings = assignments(changes, reserved=inspect.signature(tuning.tune).parameters, verb="tune")
    if epochs is not None:
        settings["epochs"] = str(epochs)
    ranges = dict(parse(text) for text in space or [])

    def tell(tuned: tuning.Tuned | None, trial: Mapping[str, Any]) -> None:
        score = f"{trial['score']:.4f}" if trial["outcome"] == "complete" else trial["outcome"]
        best = "" if tuned is None else f", best {tuned.best['score']:.4f}"
        print(f"trial {trial['number'] + 1}/{trials} {score}{best}: {_shown(trial['params'])}", file=sys.stderr, flush=True)

    try:
        tuned = tuning.tune(
            recipe, data, trials=trials, out=out, seed=seed, protocol=protocol, metric=metric, space=ranges, prune=prune,
            timeout=timeout, device=torch_device(device), options=options, on_trial=tell, **settings,
        )  # fmt: skip
    except KeyboardInterrupt:
        print("graphcl: interrupted; the same command goes on", file=sys.stderr)
        sys.exit(130)
    command = ["graphcl", "train", recipe, data, "--config", str(tuned.path / "best.json"), "--protocol", protocol]
    command += words({**options, "seed": seed})
    if as_json:
        print(json.dumps({**tuned.best, "path": str(tuned.path), "command": shlex.join(command)}))
        return
    best = tuned.best
    searched = {key: best["settings"][key] for key in best["space"]}
    print(f"Best of {best['trials']} trials, validation {best['metric']} {best['score']:.4f}: {_shown(searched)}")
    print(f"Trials: {tuned.path / 'trials.csv'}")
    print(f"Train with them: {shlex.join(command)}")


def _shown(settings: dict[str, Any]) -> str:
    return " ".join(f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in settings.items())
