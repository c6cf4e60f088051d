"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

RunDir = Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a finished run.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, last on stdout.")]
DataArg = Annotated[str, typer.Argument(metavar="DATA", help="A registered data set, or a file or folder.")]
Format = Annotated[str | None, typer.Option(help="Format of the file, where it can't be told.")]
UserCol = Annotated[str | None, typer.Option(help="Column of users.")]
ItemCol = Annotated[str | None, typer.Option(help="Column of items.")]
TimeCol = Annotated[str | None, typer.Option(help="Column of times.")]
RatingCol = Annotated[str | None, typer.Option(help="Column of ratings.")]
MinRating = Annotated[float | None, typer.Option(help="Keep rows with at least this rating.")]
KCore = Annotated[int | None, typer.Option(help="Keep users and items with at least this many partners, to a fixed point.")]
Rule = Annotated[str | None, typer.Option("--split", help="random, temporal, global_time, leave_one_out or all.")]
SplitSeed = Annotated[int | None, typer.Option(help="Seed of the split; --seed never moves it.")]


def given(**options: Any) -> dict[str, Any]:
    """Those that were given."""
    return {key: value for key, value in options.items() if value is not None}
