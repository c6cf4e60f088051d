"""The command line: the only part that prints, draws progress or picks a device. Heavy imports wait until a verb needs them."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from graphcl.cli import show
from graphcl.cli.compare import compare
from graphcl.cli.data import app as data_verbs
from graphcl.cli.histories import read_histories
from graphcl.cli.options import (
    DataArg,
    Device,
    Format,
    ItemCol,
    Json,
    RatingCol,
    RunDir,
    TimeCol,
    UserCol,
    assignments,
    reads_log,
    set_words,
    torch_device,
    words,
)
from graphcl.cli.recipes import recipes
from graphcl.cli.tune import tune

app = typer.Typer(
    help="Contrastive learning on graphs and in recommendation.",
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
)  # fmt: skip
app.add_typer(data_verbs, name="data")
app.command()(compare)
app.command()(tune)
app.command()(recipes)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(version("graphcl"))
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[bool, typer.Option("--version", is_eager=True, callback=_version, help="Print it.")] = False,
) -> None:
    pass


# Click's UsageError; typer holds click in different places from version to version.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]

_WRONG_PATH = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)


def main() -> None:
    """Runs the command line; what the user got wrong is one line on stderr and exit code 2."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # for recipes of one's own; last, so that it hides nothing
    try:
        with _shown_warnings():
            code = app(standalone_mode=False)
    except _UsageError as error:
        told = error.format_message()  # type: ignore[attr-defined]
        if told.startswith("Usage:"):  # the help, of a command that was given nothing
            print(told, file=sys.stderr)
            sys.exit(2)
        _fail(told, 2)
    except (ValueError, TypeError, ImportError, *_WRONG_PATH) as error:
        _fail(error, 2)
    except MemoryError as error:
        _fail(f"out of memory: {error}", 1)
    except (FloatingPointError, OSError) as error:
        _fail(error, 1)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        _fail("compiled kernels can be kept nowhere: set NUMBA_CACHE_DIR to a folder that can be written to", 1)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", 130)
    if code == 130:  # what typer makes of a KeyboardInterrupt
        _fail("interrupted", code)
    sys.exit(code)


def _fail(error: BaseException | str, code: int) -> None:
    print(f"graphcl: {_told(error)}", file=sys.stderr)
    sys.exit(code)


def _told(error: BaseException | str) -> str:
    """One line."""
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return " ".join(text.split()) or type(error).__name__


@contextmanager
def _shown_warnings() -> Iterator[None]:
    """Warnings as one line each."""
    import warnings

    with warnings.catch_warnings():
        warnings.showwarning = lambda message, category, *rest, **more: print(f"graphcl: warning: {message}", file=sys.stderr)
        yield


@app.command()
@reads_log(graphs=True)
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe, or the dotted path of a module that is one.")] = "xsimgcl",
    data: DataArg = "ml-100k",
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the recipe.")] = None,
    config: Annotated[Path | None, typer.Option(help="JSON of settings; may be a run's config.json.")] = None,
    epochs: Annotated[int | None, typer.Option(help="At most so many.")] = None,
    seed: int = 0,
    out: Annotated[Path | None, typer.Option(help="The run's directory; by default a new one under runs/.")] = None,
    device: Device = "auto",
    protocol: Annotated[
        str, typer.Option(help="valid, refit, lightgcnpp, recbole, sslrec, as-published or all; see graphcl protocols.")
    ] = "valid",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, a finished one with more --epochs.")
    ] = False,
    floor: Annotated[bool, typer.Option(help="Also measure the parameter-free baselines.")] = True,
    as_json: Json = False,
    *,
    options: dict[str, Any],
) -> None:
    """Train a recipe on a log or a graph, evaluate it honestly and keep the run."""
    import inspect

    from graphcl import bench, claims, runs
    from graphcl.recipes.space import stated
    from graphcl.run import Run
    from graphcl.sequence_run import SequenceRun

    settings = assignments(changes, reserved=inspect.signature(runs.train).parameters, verb="train")
    if epochs is not None:
        settings["epochs"] = str(epochs)
    if not as_json and data == "ml-100k":
        print(_citation(data), file=sys.stderr)
    with show.bars() as (observe, progress):
        where: list[Path] = []
        try:
            run = runs.train(
                recipe, data, out=out, seed=seed, protocol=protocol, device=torch_device(device), resume=resume,
                config=_settings_file(config, recipe), options=options, observe=observe, progress=progress,
                on_start=where.append, **settings,
            )  # fmt: skip
            rows = [run]
            if floor and "test" in run.result["metrics"] and "restore" not in vars(run.recipe):
                if isinstance(run, Run):
                    rows += bench.floor(run.split, protocol, run.path / "floor", preset=run.config["preset"])
                elif isinstance(run, SequenceRun):
                    rows += bench.sequence_floor(run.split, protocol, run.path / "floor")
        except (KeyboardInterrupt, OSError) as error:
            if not where or (isinstance(error, OSError) and not claims.has_trained(where[0])):
                raise
            again = [word for word in sys.argv[1:] if word != "--resume"] + ([] if out is not None else ["--out", str(where[0])])
            reason, code = (_told(error), 1) if isinstance(error, OSError) else ("interrupted", 130)
            _fail(f"{reason}; go on with: graphcl {shlex.join(again)} --resume", code)
    if as_json:
        result = dict(run.result)
        if len(rows) > 1:
            result["floor"] = {r.config["recipe"]: r.result["metrics"]["test"] for r in rows[1:]}
            if "test_masked" in result["metrics"]:
                result["floor_masked"] = {r.config["recipe"]: r.result["metrics"]["test_masked"] for r in rows[1:]}
        print(json.dumps(result))
        return
    show.table(rows)
    same = [data, *([] if protocol == "valid" else ["--protocol", protocol]), *words(options)]
    if isinstance(run, Run) and (above := bench.above(run, rows[1:])):
        told = f"{' and '.join(above)} {'is' if len(above) == 1 else 'are'} better"
        chosen, sources, searched = run.config["settings"], run.config["sources"], stated(run.recipe)
        kept = {key: chosen[key] for key, source in sources.items() if source in ("config", "set") and key not in searched}
        search = shlex.join(["graphcl", "tune", recipe, *same, *set_words(kept)])
        print(f"On validation {told}; settings of this log are searched for by: {search}")
    skipped = [] if not isinstance(run, Run) or not floor or len(rows) == 1 else bench.skipped(run.split)
    if skipped:
        print(f"Not measured at this size: {', '.join(skipped)} ({shlex.join(['graphcl', 'train', skipped[0], *same])}).")
    print(f"Run: {run.path}")


def _settings_file(path: Path | None, recipe: str) -> dict[str, Any]:
    """Settings in a JSON file: a flat object, or a run's config.json (of the same recipe)."""
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: not JSON ({error.msg})") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not JSON, for it is not UTF-8 text") from None
    settings = found.get("settings", found) if isinstance(found, dict) else None
    if not isinstance(settings, dict):
        raise ValueError(f"{path}: a JSON object of settings is needed")
    if settings is not found and found.get("recipe") != recipe:
        raise ValueError(f"{path} holds settings of {found.get('recipe')!r}, not of {recipe!r}")
    return settings


def _citation(name: str) -> str:
    from graphcl.data import registry

    config = registry.find(name)
    return f"{config.title}. {config.licence} Please cite: {config.citation}"


@app.command()
def evaluate(run: RunDir, as_json: Json = False) -> None:
    """Rank the test part of a run again, or probe the embedding of a graph."""
    from graphcl import runs
    from graphcl.pretrain import NodeRun

    loaded = runs.load(run)
    with show.bars() as (_, progress):
        found = loaded.evaluate(progress=progress)
    metrics = found if isinstance(found, dict) else {"test": found.means}
    if not isinstance(loaded, NodeRun) and (lie := loaded.geometry()):
        metrics["embedding"] = lie
    masked = metrics.get("test_masked", {})
    if as_json:
        print(json.dumps({**loaded.result, "metrics": {**loaded.result["metrics"], **metrics}}))
        return
    print(f"{loaded.result['dataset']}, protocol {loaded.result['protocol']}, {show.chosen(loaded)}:")
    if masked:
        print(f"{'seen items':16}{'kept':>10}{'masked':>10}")
    for key, value in {**metrics["test"], **metrics.get("embedding", {})}.items():
        print(f"{key:16}{value:10.4f}" + (f"{masked[key]:10.4f}" if key in masked else ""))


@app.command()
def recommend(
    run: RunDir,
    out: Annotated[Path, typer.Option(help="A .parquet, .csv or .jsonl file.")],
    k: Annotated[int, typer.Option(help="Items for each user.")] = 20,
    users: Annotated[Path | None, typer.Option(help="File of user ids, one a line.")] = None,
    history: Annotated[
        Path | None, typer.Option(help="Table of user and item (and perhaps time) of people who need not be in the log.")
    ] = None,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Do not leave out what users have had.")] = False,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    rating_col: RatingCol = None,
    format: Format = None,
) -> None:
    """Recommend items to users of the log, or from histories. Their columns are named as in training, if not otherwise given."""
    asked = {"user_col": user_col, "item_col": item_col, "time_col": time_col, "rating_col": rating_col, "format": format}
    given = {name: column for name, column in asked.items() if column is not None}
    if users is not None and history is not None:
        raise ValueError("--users and --history exclude each other")
    if given and history is None:
        raise ValueError(f"--{next(iter(given)).replace('_', '-')} is of the table of --history")
    _writer(out)
    loaded = _recommender(run)
    histories = read_histories(history, loaded.config, given) if history else None
    with show.bars() as (_, progress):
        frame = loaded.recommend(
            _lines(users) if users else None, histories=histories, k=k, exclude_seen=not include_seen, progress=progress,
        )  # fmt: skip
    _write_frame(frame, out)
    print(f"{len(frame)} rows for {frame['user'].nunique()} users: {out}")


def _recommender(path: Path) -> Any:
    from graphcl import runs
    from graphcl.pretrain import NodeRun

    run = runs.load(path)
    if isinstance(run, NodeRun):
        raise ValueError(f"{path}: {run.config['recipe']} learned a graph's nodes, not users and items; use graphcl embed")
    return run


def _lines(path: Path) -> list[str]:
    from graphcl.data.source import read_text

    return [line.strip() for line in read_text(path).decode().splitlines() if line.strip()]


def _writer(out: Path) -> str:
    if out.suffix not in (".parquet", ".csv", ".jsonl"):
        raise ValueError(f"--out must end in .parquet, .csv or .jsonl, got {out.name!r}")
    return out.suffix


def _write_frame(frame: Any, out: Path) -> None:
    from graphcl.rundir import atomically

    writers = {
        ".parquet": lambda part: frame.to_parquet(part, index=False),
        ".csv": lambda part: frame.to_csv(part, index=False),
        ".jsonl": lambda part: frame.to_json(part, orient="records", lines=True),
    }
    atomically(out, writers[_writer(out)])


@app.command()
def similar(run: RunDir, item: Annotated[str, typer.Option(help="An item id.")], k: int = 20, as_json: Json = False) -> None:
    """The items nearest to one item: by cosine of embeddings, or for a recipe without any by the score that a history of it gives."""
    frame = _recommender(run).similar(item, k)
    print(frame.to_json(orient="records") if as_json else frame.to_string(index=False))


@app.command()
def embed(run: RunDir, out: Annotated[Path, typer.Option(help="A .npz, .parquet or .safetensors file.")]) -> None:
    """Write the embeddings of users and items, of the items alone (sequences), or of a graph's nodes, with their ids."""
    from graphcl import export, runs

    export.check(out)
    export.write(runs.load(run).embeddings(), out)
    print(out)


@app.command("protocols")
def list_protocols(as_json: Json = False) -> None:
    """List the evaluation protocols: what each trains on, chooses the epoch on and masks."""
    import dataclasses

    from graphcl.data import PROTOCOLS

    if as_json:
        print(json.dumps({name: dataclasses.asdict(each) for name, each in PROTOCOLS.items()}))
        return
    for name, each in PROTOCOLS.items():
        print(f"{name:16}{each.about}")
        print(" " * 16 + f"used by {each.used_by}")


@app.command()
def bench(
    name: Annotated[str, typer.Argument(help="A configuration in benchmarks/configs, or a program in benchmarks such as speed.")],
    extend: Annotated[bool, typer.Option("--extend", help="Keep the seeds of the written result, whose runs are gone.")] = False,
    as_json: Json = False,
) -> None:
    """Run a benchmark over its seeds; what has finished is kept and not run again."""
    from graphcl import bench as benches

    with show.bars() as (observe, _):
        result = benches.run(name, observe=observe, extend=extend)
    print(json.dumps(result) if as_json else json.dumps(result["summary"], indent=1))
