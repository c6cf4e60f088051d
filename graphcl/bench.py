"""Benchmarks: the parameter-free floor, and configurations run over their seeds."""

from __future__ import annotations

import datetime
import resource
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from graphcl import phase as phases
from graphcl import rundir, runs, sequence_run
from graphcl.data import protocol as protocols
from graphcl.data import registry
from graphcl.data.fingerprint import of_split
from graphcl.data.nearest import nearest
from graphcl.data.sequences import SequenceSplit
from graphcl.data.split import Split
from graphcl.interactions import Interactions, Vocabulary
from graphcl.metrics import MASKED
from graphcl.recipes.configure import configure, find
from graphcl.recipes.configure import settings as all_settings
from graphcl.run import Run
from graphcl.runs import AnyRun
from graphcl.sequence_run import SequenceRun
from graphcl.streams import Streams

FLOOR = ("popular", "itemknn", "ease", "gfcf")
SEQUENCE_FLOOR = ("popular_items", "own_history")
EASE_GRID = (20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)  # of l2, for the floor beside a training run
PROGRAMS = (
    "speed",
    "speed-recbole",
    "breakdown",
    "scale",
    "hetero",
    "negatives",
    "sequential",
)  # benchmarks/NAME.py, each with a main(root); the rest are configurations
# Items above which one of the floor takes minutes and is left to be asked for: ease is cubic in them, itemknn quadratic.
_QUICK = {"ease": 10_000, "gfcf": 10_000, "itemknn": 100_000}


def floor(made: Split, protocol: str, out: Path, *, preset: str | None = None) -> list[Run]:
    """The baselines without trained parameters under the same protocol; EASE's regulariser by validation. Finished ones are kept."""
    found = []
    for name in FLOOR:
        if name in skipped(made):
            continue
        if (out / name / "result.json").exists():
            found.append(Run(out / name))
            continue
        changes = {"l2": choose(made, "ease", "l2", EASE_GRID)[0]} if name == "ease" and made.valid is not None else {}
        begun = (out / name / "config.json").exists()
        found.append(_recommender(name, made, out=out / name, protocol=protocol, resume=begun, preset=preset, **changes))
    return found


def sequence_floor(made: SequenceSplit, protocol: str, out: Path) -> list[SequenceRun]:
    """The rules without trained parameters on the same histories. Finished ones are kept."""
    found = []
    for name in SEQUENCE_FLOOR:
        begun = (out / name / "config.json").exists()
        found.append(sequence_run.train(name, made, out=out / name, protocol=protocol, resume=begun))
    return found


def above(run: Run, floor: Sequence[AnyRun]) -> list[str]:
    """Which of the floor are better than a run on validation, by the metric that chose its epoch, where the floor has that one."""
    key = run.config["settings"].get("select")
    score = run.result["metrics"].get("valid", {}).get(key, np.inf)
    return [each.result["recipe"] for each in floor if each.result["metrics"].get("valid", {}).get(key, -np.inf) > score]


def _recommender(name: str, made: Split, **options: Any) -> Run:
    run = runs.train(name, made, **options)
    assert isinstance(run, Run)
    return run


def skipped(made: Split) -> list[str]:
    """Which of the floor is too slow to come along at this size."""
    return [name for name, most in _QUICK.items() if made.train.num_items > most]


def choose(
    made: Split,
    recipe: str,
    key: str,
    grid: Sequence[Any],
    metric: str = "ndcg@20",
    *,
    layers: Mapping[str, Mapping[str, Any]] | None = None,
    most_popular: int | None = None,
) -> tuple[Any, dict[Any, float]]:
    """The value of one setting of a closed-form recipe that is best on validation, and every value's score.

    ``layers`` are the settings that a value is laid over, as `configure` takes them. ``most_popular`` searches on a catalogue of so
    many items (the most popular ones), for EASE is cubic in them.
    """
    module = find(recipe)
    plan = protocols.plan(made if most_popular is None else popular_part(made, most_popular), "valid")
    scores = {}
    for value in grid:
        config, _ = configure(module, {**(layers or {}), "grid": {key: value}})
        scorer = module.build(config, plan.train, rng=Streams(0)["init"])
        scores[value] = phases.select_report(scorer, plan, metric).means[metric]
        del scorer  # EASE's holds items x items
    return max(scores, key=scores.__getitem__), scores


def popular_part(made: Split, num_items: int) -> Split:
    """The split on its most popular items alone: item rows stand in order of degree."""
    ids = Vocabulary(made.train.item_ids.ids[:num_items])

    def part(rows: Interactions | None) -> Interactions | None:
        return None if rows is None else replace(rows.take(rows.items < num_items), item_ids=ids)

    train = part(made.train)
    assert train is not None
    return replace(made, train=train, valid=part(made.valid), test=part(made.test))


def run(name: str, *, root: Path = Path("benchmarks"), observe: Any = None, extend: bool = False) -> dict[str, Any]:
    """A configuration in ``benchmarks/configs`` over its seeds. Finished seeds are kept, an unfinished one goes on; the result is
    written after every seed, with all that is needed to repeat it.

    ``extend`` keeps the seeds of the written result too, where their runs are gone.

    Raises:
        ValueError: an unknown name, a bad configuration; seeds to extend were measured with other settings, or on other data.
    """
    programs = [known for known in PROGRAMS if (root / f"{known}.py").exists()]
    known = {path.stem: path for path in sorted((root / "configs").glob("*.json"))}
    if name not in known and name not in programs:
        names = [*known, *programs]
        told = ", ".join(names) or "none; run it where graphcl is checked out"
        raise ValueError(f"no benchmark {name!r} in {root / 'configs'}{nearest(name, names)}; known: {told}")
    config = {} if name in programs else read_config(known[name])
    if extend and (name in programs or "peer" in config):
        raise ValueError(f"only seeds of graphcl's own recipes can be extended, and {name} has none")
    if name in programs:
        return program(root / f"{name}.py")(root)
    if "peer" in config:  # another toolkit's model, in an environment of its own
        from graphcl.integrations import peer

        return peer.run(name, config, root=root)
    return _over_seeds(name, config, root, observe, extend)


def _over_seeds(name: str, config: Mapping[str, Any], root: Path, observe: Any, extend: bool) -> dict[str, Any]:
    written = root / "results" / f"{name}.json"
    before = rundir.read_json(written) if written.exists() else {}
    settings, grid = settings_of(config, root / "runs" / name / "grid.json")
    seeds = seeds_of(before, config, settings) if extend and before else {}
    about = {key: before[key] for key in ("settings", "fingerprint") if key in before}

    def check(directory: Path) -> None:  # before training, and of a finished run
        found = rundir.read_config(directory)["fingerprint"]
        if seeds and about.get("fingerprint", found) != found:  # older results have none
            raise ValueError(f"{directory} has other data than the seeds in {written}")

    result = before
    for seed in config["seeds"]:
        if seed not in seeds:
            out = root / "runs" / name / f"seed{seed}"
            begun = commit()
            had = rundir.read_result(out) if (out / "result.json").exists() else None
            done = runs.train(
                config["recipe"], config["data"], out=out, seed=seed, protocol=config["protocol"],
                resume=(out / "config.json").exists(), observe=observe, on_start=check, **settings,
            )  # fmt: skip
            check(done.path)
            about = {key: done.config[key] for key in ("settings", "fingerprint")}
            seeds[seed] = {**record(done), **_stamped(done, done.result != had, begun, before)}
        result = composed(name, config, [seeds[seed] for seed in config["seeds"] if seed in seeds], **about, grid=grid)
        rundir.write_json(written, result)
    return result


def _stamped(done: AnyRun, anew: bool, begun: str, before: Mapping[str, Any]) -> dict[str, Any]:
    """What a seed was measured with: kept in its directory, for its result may be written again on another day."""
    path = done.path / "stamp.json"
    if anew:
        versions = rundir.read_json(done.path / "versions.json")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        rundir.write_json(path, stamp(versions, {**hardware(), "threads": threads(done)}, peak, begun))
    if path.exists():
        return rundir.read_json(path)
    had = [seed for seed in seeds_stamped(before) if seed["seed"] == done.result["seed"]]
    return {key: had[0].get(key) if had else None for key in STAMP}  # trained by other means, or long ago


def read_config(path: Path) -> dict[str, Any]:
    """A configuration with its settings, where it has none too.

    Raises:
        ValueError: no JSON, something is lacking, or is of a wrong type.
    """
    config = {"settings": {}, **rundir.read_json(path)}
    lacking = {"recipe", "data", "protocol", "seeds"} - set(config)
    if lacking:
        raise ValueError(f"{path} lacks {', '.join(sorted(lacking))}")
    seeds, grid = config["seeds"], config.get("grid", {})
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int for seed in seeds) or len({*seeds}) < len(seeds):
        raise ValueError(f"{path}: seeds must be a list of different whole numbers, got {seeds!r}")
    if not isinstance(config["settings"], dict):
        raise ValueError(f"{path}: settings must be an object, got {config['settings']!r}")
    if not isinstance(grid, dict) or len(grid) > 1 or not all(isinstance(values, list) and values for values in grid.values()):
        raise ValueError(f"{path}: grid must hold the values of one setting in a list, got {grid!r}")
    if grid and "restore" not in vars(find(config["recipe"])):
        raise ValueError(f"{path}: a grid is searched for closed forms alone, and {config['recipe']!r} trains; see graphcl tune")
    if config["protocol"] == "all":
        raise ValueError(f"{path}: protocol 'all' tests nothing, so there is nothing to report")
    return config


def full_settings(config: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Every setting that a run of the configuration has, presets and defaults too."""
    module = find(config["recipe"])
    return all_settings(configure(module, {**_layers(config), "set": settings})[0])


def _layers(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    module = find(config["recipe"])
    named = registry.configured(config["data"], module.KIND)
    return runs.defaults(module, config["protocol"], named.full_name if named else None)


def seeds_stamped(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The seeds of a written result, each with what it was measured with."""
    return [{**{key: result[key] for key in STAMP if key in result}, **seed} for seed in result.get("seeds", ())]


def seeds_of(result: Mapping[str, Any], config: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """Those seeds of a written result that the configuration asks for.

    Raises:
        ValueError: they are of something else.
    """
    had = {**result, **result["settings"]}
    asked = {key: value for key, value in full_settings(config, settings).items() if key in settings or key in had}
    asked |= {key: config[key] for key in ("recipe", "data", "protocol")}
    if told := rundir.changes({key: had.get(key) for key in asked}, asked):
        raise ValueError(f"the result of {result['name']} has other settings and can't be extended: {told}")
    return {seed["seed"]: seed for seed in seeds_stamped(result) if seed["seed"] in config["seeds"]}


def program(path: Path) -> Any:
    """The ``main`` of a benchmark that is a program. Programs import each other as ``benchmarks.NAME``, so the folder above
    comes first on the path, and stays there for what they import later."""
    above = str(path.resolve().parents[1])
    if sys.path[0] != above:
        sys.path.insert(0, above)
    return runpy.run_path(str(path))["main"]


def settings_of(config: Mapping[str, Any], kept: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """The settings of a benchmark, and the score on validation of each value of a grid, where one is stated: its best value joins the
    settings. What was searched stays in ``kept``, and is not searched again while the configuration asks for the same of the same data."""
    settings, grids = dict(config.get("settings", {})), config.get("grid")
    if not grids:
        return settings, None
    made, _ = runs.load_data(config["data"], config["protocol"])
    asked = {key: config.get(key) for key in ("recipe", "data", "protocol", "settings", "grid", "grid_items")}
    asked["fingerprint"] = of_split(made)
    found = rundir.read_json(kept) if kept.exists() else {}
    ((key, grid),) = grids.items()
    if found.get("asked") != asked:
        layers = {**_layers(config), "set": settings}
        _, scores = choose(made, config["recipe"], key, grid, layers=layers, most_popular=config.get("grid_items"))
        found = {"asked": asked, "scores": {key: {str(value): score for value, score in scores.items()}}}
        rundir.write_json(kept, found)
    settings[key] = max(grid, key=lambda value: found["scores"][key][str(value)])
    return settings, found["scores"]


CURVES = ("recall@20", "ndcg@20", "ma_f1", "mi_f1", "acc", "nmi")
SEQUENCE_CURVES = ("hr@10", "ndcg@10")


def record(done: AnyRun) -> dict[str, Any]:
    """A seed's result with its curve; ``seconds`` of a point is training so far."""
    curve = []
    for line in rundir.log_lines(done.path):
        held_out = line.get("valid") or line.get("test") or {}
        curve.append(
            {
                "epoch": line["epoch"],
                "seconds": line["elapsed"],
                "terms": line["terms"],
                **{k: held_out[k] for k in (SEQUENCE_CURVES if "valid_masked" in line else CURVES) if k in held_out},
            }
        )
    keys = ("seed", "epochs", "steps", "best_epoch", "selected_on", "metrics", "seconds")
    return {**{key: done.result[key] for key in keys}, "threads": threads(done), "curve": curve}


def threads(done: AnyRun) -> dict[str, int | None]:
    """How many a run was trained with; None where it did not keep the number."""
    versions = rundir.read_json(done.path / "versions.json")
    return {"torch": versions.get("threads"), "numba": versions.get("numba_threads")}


STAMP = ("commit", "date", "versions", "hardware", "peak_memory_gb")


def stamp(versions: Mapping[str, Any], hardware: Mapping[str, Any], peak_memory_gb: float, at: str) -> dict[str, Any]:
    """``at`` is the commit; the date is today's."""
    return dict(zip(STAMP, (at, datetime.date.today().isoformat(), versions, hardware, peak_memory_gb), strict=True))


def composed(
    name: str,
    config: Mapping[str, Any],
    seeds: Sequence[Mapping[str, Any]],
    *,
    told: Sequence[str] = ("recipe", "data", "protocol", "published"),  # of the configuration
    **found: Any,
) -> dict[str, Any]:
    """A result as it is written. What it was measured with is the last seed's, and each seed has its own."""
    about = {"name": name, "command": f"graphcl bench {name}", **{key: config.get(key) for key in told}}
    return {**about, **found, **{key: seeds[-1].get(key) for key in STAMP}, "seeds": seeds, "summary": summary(seeds)}


def summary(seeds: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and spread (standard deviation over seeds) of the test metrics."""
    tests = [tested(seed["metrics"]) for seed in seeds]
    wanted = (
        "recall",
        "ndcg",
        "ma_f1",
        "mi_f1",
        "auc",
        "acc",
        "nmi",
        "ari",
        "f1",
        *(("hr",) if "test_masked" in seeds[0]["metrics"] else ()),
    )
    return {
        key: {"mean": float(np.mean([t[key] for t in tests])), "std": float(np.std([t[key] for t in tests], ddof=len(tests) > 1))}
        for key in tests[0]
        if key.partition("@")[0] in wanted
    }


def tested(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The test metrics of a result, and under ``KEY/masked`` those with seen items masked, where it has both."""
    return {**metrics["test"], **{f"{key}/{MASKED}": value for key, value in metrics.get("test_masked", {}).items()}}


def commit() -> str:
    """The checkout's commit, marked where files differ from it; written results, which are changed by the measuring itself, do not count."""
    try:
        found = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", ":/", ":(exclude,top)*results/*"], check=False)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip() + ("-dirty" if changed.returncode else "")


def hardware() -> dict[str, Any]:
    import os
    import platform

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    return {"cpu": model, "cores": os.cpu_count()}
