"""Benchmarks: the parameter-free floor, paired comparisons, and configurations run over their seeds."""

from __future__ import annotations

import datetime
import inspect
import json
import resource
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from graphcl import phase as phases
from graphcl import rundir, runs
from graphcl.data import protocol as protocols
from graphcl.data.nearest import nearest
from graphcl.data.split import Split
from graphcl.interactions import Interactions, Vocabulary
from graphcl.metrics import parse
from graphcl.recipes.configure import configure, find
from graphcl.run import Run
from graphcl.streams import Streams

FLOOR = ("popular", "itemknn", "ease", "gfcf")
EASE_GRID = (20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)  # of l2, for the floor beside a training run
PROGRAMS = (
    "speed",
    "speed-recbole",
    "breakdown",
    "scale",
)  # benchmarks/NAME.py, each with a main(root); the rest are configurations
_RESAMPLED = 2**22  # values that a bootstrap holds at a time
_QUICK_ITEMS = 10_000  # above, ease (cubic in items) and gfcf take minutes and are left to be asked for


def floor(made: Split, protocol: str, out: Path, *, preset: str | None = None) -> list[Run]:
    """The baselines without trained parameters under the same protocol; EASE's regulariser by validation. Finished ones are kept."""
    found = []
    for name in FLOOR:
        if name in skipped(made):
            continue
        if (out / name / "result.json").exists():
            found.append(runs.load(out / name))
            continue
        changes = {"l2": choose(made, "ease", "l2", EASE_GRID)[0]} if name == "ease" and made.valid is not None else {}
        begun = (out / name / "config.json").exists()
        found.append(runs.train(name, made, out=out / name, protocol=protocol, resume=begun, preset=preset, **changes))
    return found


def skipped(made: Split) -> list[str]:
    """Which of the floor is too slow to come along at this size."""
    return ["ease", "gfcf"] if made.train.num_items > _QUICK_ITEMS else []


def choose(
    made: Split, recipe: str, key: str, grid: Sequence[Any], metric: str = "ndcg@20", *, most_popular: int | None = None
) -> tuple[Any, dict[Any, float]]:
    """The value of one setting of a closed-form recipe that is best on validation, and every value's score.

    ``most_popular`` searches on a catalogue of so many items (the most popular ones), for EASE is cubic in them.
    """
    module = find(recipe)
    plan = protocols.plan(made if most_popular is None else popular_part(made, most_popular), "valid")
    scores = {}
    for value in grid:
        config, _ = configure(module, {"grid": {key: value}})
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


def compare(compared: Sequence[Run], metric: str = "ndcg@20", *, samples: int = 9999, seed: int = 0) -> list[dict[str, Any]]:
    """Each run's mean and its difference to the first run's, with a 95 % paired bootstrap interval over users.

    Raises:
        ValueError: fewer than two runs, different data, or a metric that the runs hold no values of for each user.
    """
    from scipy.stats import bootstrap

    named = "rng" if "rng" in inspect.signature(bootstrap).parameters else "random_state"  # before SciPy 1.15
    if len(compared) < 2:
        raise ValueError("compare needs two runs or more")
    key = parse(metric).key
    columns = []
    for run in compared:
        path = run.path / "per_user.parquet"
        if run.config["fingerprint"] != compared[0].config["fingerprint"]:
            raise ValueError(f"{run.path} and {compared[0].path} were not evaluated on the same data and split")
        if not path.exists():
            raise ValueError(f"{run.path} holds no metrics for each user")
        frame = pd.read_parquet(path).set_index("user")
        if key not in frame:
            raise ValueError(f"{run.path} holds no {key!r} for each user{nearest(key, frame.columns)}")
        columns.append(frame[key])
    values = pd.concat(columns, axis=1, join="inner").dropna().to_numpy()
    rows = []
    for number, run in enumerate(compared):
        difference = values[:, number] - values[:, 0]
        interval = (float(difference[0]), float(difference[0]))  # where all users differ by the same
        if np.ptp(difference) > 0:
            # The difference of each user is resampled: pairs stay together. A few samples at a time, for memory.
            found = bootstrap(
                (difference,), np.mean, n_resamples=samples, batch=max(1, _RESAMPLED // len(difference)), method="percentile",
                **{named: np.random.default_rng(seed)},
            )  # fmt: skip
            interval = (float(found.confidence_interval.low), float(found.confidence_interval.high))
        rows.append(
            {
                "run": str(run.path), "recipe": run.config["recipe"], "metric": key, "users": len(values),
                "mean": float(values[:, number].mean()), "difference": float(difference.mean()), "interval": interval,
            }
        )  # fmt: skip
    return rows


def run(name: str, *, root: Path = Path("benchmarks"), observe: Any = None) -> dict[str, Any]:
    """A configuration in ``benchmarks/configs`` over its seeds. Finished seeds are kept, an unfinished one goes on; the result is
    written after every seed, with all that is needed to repeat it.

    Raises:
        ValueError: an unknown name, an incomplete configuration.
    """
    programs = [known for known in PROGRAMS if (root / f"{known}.py").exists()]
    if name in programs:
        return program(root / f"{name}.py")(root)
    known = {path.stem: path for path in sorted((root / "configs").glob("*.json"))}
    if name not in known:
        names = [*known, *programs]
        raise ValueError(
            f"no benchmark {name!r} in {root / 'configs'}{nearest(name, names)}; known: {', '.join(names) or 'none'}"
        )
    config = rundir.read_json(known[name])
    lacking = {"recipe", "data", "protocol", "seeds"} - set(config)
    if lacking:
        raise ValueError(f"{known[name]} lacks {', '.join(sorted(lacking))}")
    if "peer" in config:  # another toolkit's model, in an environment of its own
        from graphcl.integrations import peer

        return peer.run(name, config, root=root)
    settings = settings_of(config)
    seeds: list[dict[str, Any]] = []
    for seed in config["seeds"]:
        out = root / "runs" / name / f"seed{seed}"
        done = runs.train(
            config["recipe"], config["data"], out=out, seed=seed, protocol=config["protocol"],
            resume=(out / "config.json").exists(), observe=observe, **settings,
        )  # fmt: skip
        seeds.append(record(done))
        result = {
            "name": name,
            "command": f"graphcl bench {name}",
            **{key: config.get(key) for key in ("recipe", "data", "protocol", "published", "note")},
            "settings": done.config["settings"],
            "commit": commit(),
            "date": datetime.date.today().isoformat(),
            "versions": rundir.read_json(done.path / "versions.json"),
            "hardware": hardware(),
            "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
            "seeds": seeds,
            "summary": summary(seeds),
        }
        rundir.write_json(root / "results" / f"{name}.json", result)
    return result


def program(path: Path) -> Any:
    """The ``main`` of a benchmark that is a program. Programs import each other as ``benchmarks.NAME``, so the folder above
    comes first on the path, and stays there for what they import later."""
    above = str(path.resolve().parents[1])
    if sys.path[0] != above:
        sys.path.insert(0, above)
    return runpy.run_path(str(path))["main"]


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a benchmark; where a grid is stated, its best value on validation joins them."""
    settings = dict(config.get("settings", {}))
    for key, grid in config.get("grid", {}).items():
        made, _ = runs.load_data(config["data"], config["protocol"])
        settings[key], _ = choose(made, config["recipe"], key, grid, most_popular=config.get("grid_items"))
    return settings


def record(done: Run) -> dict[str, Any]:
    """A seed's result with its curve."""
    log = done.path / "metrics.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    curve = []
    for line in lines:
        held_out = line.get("valid") or line.get("test") or {}
        curve.append(
            {
                "epoch": line["epoch"],
                "terms": line["terms"],
                **{k: held_out[k] for k in ("recall@20", "ndcg@20") if k in held_out},
            }
        )
    keys = ("seed", "epochs", "steps", "best_epoch", "selected_on", "metrics", "seconds")
    return {**{key: done.result[key] for key in keys}, "curve": curve}


def summary(seeds: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and spread (standard deviation over seeds) of the test metrics."""
    tests = [seed["metrics"]["test"] for seed in seeds]
    return {
        key: {"mean": float(np.mean([t[key] for t in tests])), "std": float(np.std([t[key] for t in tests], ddof=len(tests) > 1))}
        for key in tests[0]
        if key.partition("@")[0] in ("recall", "ndcg")
    }


def commit() -> str:
    """The checkout's commit, marked where files differ from it."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def hardware() -> dict[str, Any]:
    import os
    import platform

    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0] if names else model
    return {"cpu": model, "cores": os.cpu_count()}
