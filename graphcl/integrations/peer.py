"""RecBole's own models as benchmarks: on our split, by RecBole's trainer, in an environment of their own.

A configuration with ``"peer": "recbole"`` names one as ``"recipe": "recbole:LightGCN"``; its settings are RecBole's. The split is
written as atomic files, ids as row numbers. With ``"split": "leave_one_out"`` it is one file with each row's place in its
user's history for time, for RecBole keeps times as float32, in which two minutes of today are the same; RecBole then
leaves the same items out as we do.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from graphcl import bench, rundir, runs
from graphcl.data import protocol as protocols
from graphcl.data.fingerprint import of_split
from graphcl.data.split import Split
from graphcl.integrations.recbole_names import metric_for
from graphcl.interactions import Interactions, concat
from graphcl.versions import versions

PROTOCOLS = ("valid", "recbole")  # whose masks are RecBole's: train where it selects, validation too at test
SEQUENCES = "leave_one_out"
_DATASET = "log"  # "ml-100k" RecBole would look for in its own folder


def run(name: str, config: Mapping[str, Any], *, root: Path, python: Path | None = None) -> dict[str, Any]:
    """A peer's configuration over its seeds; ``root/results/NAME.json`` is written after each, and finished seeds are kept.

    Raises:
        ValueError: a peer that is not known, a protocol that is not RecBole's.
        FileNotFoundError: there is no environment with RecBole.
        RuntimeError: RecBole failed; with the end of what it said.
    """
    python = python or root.resolve().parent / ".venv-recbole" / "bin" / "python"
    _check(name, config, python)
    sequences = config.get("split") == SEQUENCES
    # Protocol "recbole" parts a log anew, at random: that is RecBole's split for models without sequences.
    made, _ = runs.load_data(config["data"], rule=SEQUENCES) if sequences else runs.load_data(config["data"], config["protocol"])
    protocols.required_valid(made, config["protocol"])
    seeds: list[dict[str, Any]] = []
    for seed in config["seeds"]:
        settings = {**_evaluation(config["protocol"], sequences), **config["settings"], "seed": seed}
        asked = {"model": config["recipe"], "settings": settings, "fingerprint": of_split(made)}
        answer = _answer(root / "runs" / name / f"seed{seed}", asked, made, sequences, python)
        keys = ("epochs", "steps", "best_epoch", "selected_on", "metrics", "seconds", "curve")
        seeds.append({"seed": seed, **{key: answer[key] for key in keys}, **answer["stamp"]})
        result = bench.composed(
            name, config, seeds, told=("recipe", "peer", "data", "split", "protocol", "published"),
            settings={**answer["settings"], **config["settings"]},
        )  # fmt: skip
        rundir.write_json(root / "results" / f"{name}.json", result)
    return result


def _check(name: str, config: Mapping[str, Any], python: Path) -> None:
    if config["peer"] != "recbole" or not config["recipe"].startswith("recbole:"):
        raise ValueError(
            f"{name}: the one peer that is known is 'recbole', with recipes such as 'recbole:LightGCN'; "
            f"got {config['peer']!r} and {config['recipe']!r}"
        )
    if config["protocol"] not in PROTOCOLS:
        raise ValueError(f"{name}: RecBole masks as protocols {' and '.join(PROTOCOLS)} do, not as {config['protocol']!r}")
    if config.get("split") not in (None, SEQUENCES):
        raise ValueError(f"{name}: split is the data set's own, or {SEQUENCES!r}; got {config['split']!r}")
    check_environment(python)


def check_environment(python: Path) -> None:
    """Raises:
    FileNotFoundError: there is no environment with RecBole.
    """
    if not python.exists():
        raise FileNotFoundError(f"{python} is not there; make test-recbole creates the environment")


def _evaluation(protocol: str, sequences: bool) -> dict[str, Any]:
    """RecBole's settings for the files that are written for it."""
    metric = protocols.find(protocol).select or "ndcg@20"
    shared = {"valid_metric": metric_for(metric), "gpu_id": "", "state": "ERROR"}
    how = {"group_by": "user", "order": "TO" if sequences else "RO", "split": {"LS": "valid_and_test"}, "mode": "full"}
    if sequences:
        return {**shared, "load_col": {"inter": ["user_id", "item_id", "timestamp"]}, "eval_args": how}
    parts = {"benchmark_filename": ["train", "valid", "test"], "load_col": {"inter": ["user_id", "item_id"]}}
    return {**shared, **parts, "eval_args": how}


def _answer(out: Path, asked: dict[str, Any], made: Split, sequences: bool, python: Path) -> dict[str, Any]:
    """What RecBole found; what it was asked before is read again."""
    kept = out / "answer.json"
    if kept.exists():
        answer = rundir.read_json(kept)
        if answer["asked"] == asked and "stamp" in answer:
            return answer
    out.mkdir(parents=True, exist_ok=True)
    begun = bench.commit()
    with tempfile.TemporaryDirectory() as folder:  # where it stands it leaves checkpoints and logs
        place = Path(folder)
        (place / "asked.json").write_text(json.dumps(asked))
        if sequences:
            write_history(place, _DATASET, made)
        else:
            write_parts(place, _DATASET, made.parts)
        command = [str(python), "-W", "ignore", "-m", __name__, "asked.json", str(kept.resolve())]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{asked['model']} ended with {done.returncode}: {done.stderr.strip()[-2000:]}")
    answer = rundir.read_json(kept)
    answer["stamp"] = bench.stamp(answer.pop("versions"), bench.hardware(), answer.pop("peak_memory_gb"), begun)
    rundir.write_json(kept, answer)
    return answer


def write_parts(folder: Path, name: str, parts: Mapping[str, Interactions]) -> None:
    """``folder/NAME/NAME.PART.inter`` for RecBole's ``benchmark_filename``; row numbers of users and items as text."""
    (folder / name).mkdir()
    for part, log in parts.items():
        lines = "\n".join(f"u{u}\ti{i}" for u, i in zip(log.users.tolist(), log.items.tolist(), strict=True))
        (folder / name / f"{name}.{part}.inter").write_text(f"user_id:token\titem_id:token\n{lines}\n")


def write_history(folder: Path, name: str, made: Split) -> None:
    """``folder/NAME/NAME.inter``, each user's rows numbered from 0: train in order of time, then validation, then test.

    Raises:
        ValueError: a user with several rows held out, a pair that is repeated.
    """
    for which, held_out in made.parts.items():
        counts = np.bincount(held_out.users)
        if which != "train" and counts.max() > 1:
            who = str(held_out.user_ids.ids[counts.argmax()])
            raise ValueError(f"{made.name}: {who!r} has {counts.max()} {which} rows: RecBole holds out one row of each user")
    log = concat(list(made.parts.values()))
    part = np.repeat(np.arange(len(made.parts)), [len(rows) for rows in made.parts.values()])
    order = np.lexsort((part,) if log.time is None else (log.time, part))  # stable: then by place in the file
    users = log.users[order]
    by_user = np.argsort(users, kind="stable")
    starts = np.searchsorted(users[by_user], users[by_user])
    place = np.empty(len(users), dtype=np.int64)
    place[by_user] = np.arange(len(users)) - starts
    write_placed(folder, name, users, log.items[order], place)


def write_placed(folder: Path, name: str, users: np.ndarray, items: np.ndarray, places: np.ndarray) -> None:
    """``folder/NAME/NAME.inter``: row numbers of users and items as text, an item's place in its user's history for time."""
    rows = zip(users.tolist(), items.tolist(), places.tolist(), strict=True)
    lines = "\n".join(f"u{u}\ti{i}\t{t}" for u, i, t in rows)
    (folder / name).mkdir()
    (folder / name / f"{name}.inter").write_text(f"user_id:token\titem_id:token\ttimestamp:float\n{lines}\n")


def answer(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    """In the environment with RecBole: trains on the files in ``folder`` and tells what it found."""
    import importlib.metadata

    from graphcl.integrations import recbole

    found = recbole.run(asked["model"], _DATASET, {**asked["settings"], "data_path": str(folder)})
    told = versions()
    told["packages"]["recbole"] = importlib.metadata.version("recbole")
    curve = [
        {
            "epoch": line["epoch"],
            "terms": {"loss": line["loss"]},
            **{key: line["valid"][key] for key in ("recall@20", "ndcg@20") if key in line.get("valid", {})},
        }
        for line in found.curve
    ]
    return {
        "asked": asked,
        "epochs": len(found.curve),
        "steps": found.steps,
        "best_epoch": found.best_epoch,
        "selected_on": "valid" if found.best_epoch is not None else None,
        "metrics": {"test": found.test, "valid": found.valid},
        "seconds": found.seconds,
        "curve": curve,
        "settings": recbole.told(found.config),
        "versions": told,
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


if __name__ == "__main__":
    rundir.write_json(Path(sys.argv[2]), answer(rundir.read_json(Path(sys.argv[1])), Path.cwd()))
