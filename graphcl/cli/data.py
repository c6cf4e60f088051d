"""Verbs on data: list, describe, fetch, convert, synth."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from graphcl.cli import show
from graphcl.cli.options import (
    DataArg,
    Json,
    reads_log,
)

app = typer.Typer(help="Data sets: list, describe, fetch, convert, synth.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def data_list(as_json: Json = False) -> None:
    """The registered data sets."""
    from graphcl.data import registry

    found = [{"name": c.full_name, "title": c.title, "licence": c.licence, "counts": c.counts} for c in registry.list_datasets()]
    if as_json:
        print(json.dumps(found))
        return
    width = max(len(each["name"]) for each in found) + 2
    for each in found:
        print(f"{each['name']:{width}}{each['title']}")


@app.command()
@reads_log()
def describe(
    data: DataArg,
    options: dict[str, Any],
    as_json: Json = False,
) -> None:
    """Counts, density, cold users and items, time span, and a leakage audit; of a graph: nodes, relations, meta-paths, labels."""
    from graphcl import runs
    from graphcl.data import registry
    from graphcl.data.describe import describe as audit
    from graphcl.data.describe import describe_attributed, describe_nodes

    kind = registry.kind_of(data)
    if kind != "general" and options:
        raise ValueError(f"{data} is a graph of labelled nodes; {', '.join(options)} cannot be set for it")
    if kind == "hetero":
        from graphcl.data.nodes import load_nodes

        found = describe_nodes(load_nodes(data))
    elif kind == "attributed":
        from graphcl.data.attributed import load_attributed

        found = describe_attributed(load_attributed(data))
    else:
        found = audit(runs.load_data(data, **options)[0])
    if as_json:
        print(json.dumps(found))
        return
    show.nested(found)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A registered data set.")],
    root: Annotated[Path | None, typer.Option(help="Where to put it; by default the cache.")] = None,
) -> None:
    """Download a data set, verify it, resume where it broke off."""
    from tqdm import tqdm

    from graphcl.data.fetch import fetch as download

    with tqdm(unit="B", unit_scale=True, file=sys.stderr, disable=not sys.stderr.isatty()) as bar:
        print(download(name, root=root, progress=bar.update))


@app.command()
@reads_log(split=False)
def convert(
    data: Annotated[Path, typer.Argument(metavar="FILE", help="A log in any known format.")],
    out: Annotated[Path, typer.Option(help="A .csv, .parquet, .inter or .npz file.")],
    options: dict[str, Any],
) -> None:
    """Write a log in another format."""
    from graphcl.data.read import read_interactions
    from graphcl.data.write import write_interactions

    if out.exists() and out.samefile(data):
        raise ValueError(f"--out is the file that is read, {data}; write to another")
    log = read_interactions(data, **options)
    write_interactions(log, out)
    print(f"{len(log)} rows: {out}")


@app.command()
def synth(
    out: Annotated[Path, typer.Option(help="A .csv or .parquet file.")],
    users: Annotated[int, typer.Option(help="How many users, each with one item or more.")],
    items: Annotated[int, typer.Option(help="How many items to draw from.")],
    interactions: Annotated[int, typer.Option(help="How many pairs, none twice.")],
    seed: Annotated[int, typer.Option(help="Same seed, same file.")] = 0,
    exponent: Annotated[float, typer.Option(help="Items are as popular as (rank + 10)^-exponent.")] = 0.8,
    user_exponent: Annotated[float, typer.Option(help="Users are as active as (rank + 10)^-exponent.")] = 0.5,
    communities: Annotated[int, typer.Option(help="Groups of users and items that belong together.")] = 20,
    affinity: Annotated[float, typer.Option(help="Share of draws among the items of the user's own community.")] = 0.5,
) -> None:
    """Write a made-up log with power laws and communities."""
    from graphcl.data.synth import synth as make

    made = make(
        out, users, items, interactions, seed=seed, exponent=exponent, user_exponent=user_exponent, communities=communities,
        affinity=affinity,
    )  # fmt: skip
    print(f"{interactions} rows: {made}")
