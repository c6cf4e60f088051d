"""Runs: train a recipe on a log, keep everything in one directory, and use it later by the caller's own ids."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import Tensor

from graphcl import phase as phases
from graphcl import rundir
from graphcl.data import protocol as protocols
from graphcl.data import registry
from graphcl.data.protocol import Plan
from graphcl.data.read import read_interactions
from graphcl.data.split import Split, split
from graphcl.interactions import Interactions, Vocabulary, concat
from graphcl.rank import DotScorer, Progress, RankReport, evaluate, top_k
from graphcl.recipes.configure import configure, find, settings
from graphcl.recipes.model import Model
from graphcl.recipes.parts import inputs_of
from graphcl.streams import Streams

Data: TypeAlias = str | Path | pd.DataFrame | Interactions | Split


class Embeddings(NamedTuple):
    """What a trained model knows of each user and item, in the order of the ids."""

    user_ids: np.ndarray  # [U]
    users: np.ndarray  # [U, d] float32
    item_ids: np.ndarray  # [I]
    items: np.ndarray  # [I, d] float32


class Run:
    """A finished run, read from its directory; it needs neither the data it was trained on nor the settings again."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_dir():
            raise FileNotFoundError(f"there is no run at {self.path}")
        self.config: dict[str, Any] = rundir.read_json(self.path / "config.json")
        if self.config.get("format") != rundir.FORMAT:
            raise ValueError(f"{self.path}: written in format {self.config.get('format')}, this version reads {rundir.FORMAT}")

    @cached_property
    def result(self) -> dict[str, Any]:
        if not (self.path / "result.json").exists():
            raise ValueError(f"the run at {self.path} has not finished; go on with it by resume (--resume --out {self.path})")
        return rundir.read_json(self.path / "result.json")

    @cached_property
    def recipe(self) -> ModuleType:
        return find(self.config["recipe"])

    @cached_property
    def split(self) -> Split:
        parts = rundir.read_log(self.path)
        return Split(
            self.config["dataset"], parts["train"], parts.get("valid"), parts.get("test"),
            self.config["split"]["rule"], self.config["split"]["seed"],
        )  # fmt: skip

    @cached_property
    def plan(self) -> Plan:
        """What was trained on, selected on and masked: for ``refit`` the second phase's."""
        if self.config["protocol"] == "refit":
            return protocols.refit_plan(self.split)
        return protocols.plan(self.split, self.config["protocol"])

    @cached_property
    def _restored(self) -> tuple[Any, Any, DotScorer | None]:
        """Model and graph (or the Scorer and None), and what scores."""
        _ = self.result  # says so where the run is unfinished
        config, _ = configure(self.recipe, {"run": self.config["settings"]})
        tensors, _ = rundir.read_tensors(self.path / "model.safetensors")
        if "restore" in vars(self.recipe):
            return self.recipe.restore(config, self.plan.train, tensors), None, None
        model: Model = self.recipe.build(config, self.plan.train, rng=Streams(self.config["seed"])["init"])
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise ValueError(f"{self.path}: the weights do not fit the recipe ({error})") from None
        inputs = inputs_of(self.recipe, config, self.plan.train)
        return model, inputs, phases.scorer(model, inputs)

    @property
    def scorer(self):
        model, _, dots = self._restored
        return model if dots is None else dots

    @cached_property
    def _seen(self) -> sparse.csr_matrix:
        """Every interaction of the log, held-out ones too."""
        return concat(list(self.split.parts.values())).matrix

    def recommend(
        self,
        users: Iterable[Any] | None = None,
        *,
        histories: pd.DataFrame | Mapping[Any, Sequence[Any]] | None = None,
        k: int = 20,
        exclude_seen: bool = True,
        progress: Progress | None = None,
    ) -> pd.DataFrame:
        """The ``k`` best items of each user, best first: columns user, item, score, rank (from 1), ids as they came in.

        ``users``: ids of the log; None takes all of them. ``histories``: items of people who need not be in the log, as
        ``{user: [item, ...]}`` or a frame whose first two columns are user and item; they are embedded from these items alone: a
        known user's own history is not added, and items that the log has not play no part, which a warning says. ``exclude_seen``
        leaves out every interaction of the log (of the history). Users with fewer than ``k`` items left get fewer rows.

        Raises:
            ValueError: users that are not in the log, a history without any known item, both arguments at once, k < 1.
        """
        if histories is not None:
            if users is not None:
                raise ValueError("give users or histories, not both")
            names, rows = self._histories(histories)
            seen = rows if exclude_seen else None
        else:
            ids = self.split.train.user_ids.ids if users is None else list(users)
            found = np.arange(len(ids)) if users is None else self._rows(self.split.train.user_ids, ids, "user")
            names, rows = self.split.train.user_ids.ids[found], torch.from_numpy(found)
            seen = self._seen if exclude_seen else None
        items, scores = top_k(self.scorer, rows, min(k, self.scorer.num_items) if k >= 1 else k, seen=seen, progress=progress)
        return _frame(names, self.split.train.item_ids.ids, items, scores)

    def similar(self, item: Any, k: int = 20) -> pd.DataFrame:
        """The ``k`` items nearest to one item: columns item, score, rank. By cosine of embeddings, or for a recipe without
        embeddings by the score that a history of this one item gives.

        Raises:
            ValueError: an item that is not in the log.
        """
        row = self._rows(self.split.train.item_ids, [item], "item")
        num_items = self.scorer.num_items
        only = sparse.csr_matrix(([1.0], ([0], row)), shape=(1, num_items), dtype=np.float32)
        scorer = self.scorer
        if isinstance(scorer, DotScorer):
            table = torch.nn.functional.normalize(scorer.items, dim=1)
            scorer = DotScorer(table, table)
            items, scores = top_k(scorer, torch.from_numpy(row), min(k, num_items - 1), seen=_at(only, row, num_items))
        else:
            items, scores = top_k(scorer, only, min(k, num_items - 1), seen=only)
        return _frame(np.asarray([item], dtype=object), self.split.train.item_ids.ids, items, scores).drop(columns="user")

    def embeddings(self) -> Embeddings:
        """Raises ValueError for a recipe without embeddings (the floor)."""
        if not isinstance(self.scorer, DotScorer):
            raise ValueError(f"{self.config['recipe']} has no embeddings: it scores by counts or item weights")
        train, dots = self.split.train, self.scorer
        return Embeddings(train.user_ids.ids, dots.users.cpu().numpy(), train.item_ids.ids, dots.items.cpu().numpy())

    def evaluate(self, *, progress: Progress | None = None) -> RankReport:
        """Ranks the test part again, under the run's protocol."""
        return _test_report(self.scorer, self.plan, progress)

    @staticmethod
    def _rows(vocabulary: Vocabulary, ids: Any, what: str) -> np.ndarray:
        rows = vocabulary.rows(ids)
        if (rows < 0).any():
            unknown = [ids[i] for i in np.flatnonzero(rows < 0)]
            shown = ", ".join(repr(i) for i in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
            hint = "; for people who are not in it, give their items as histories (--history)" if what == "user" else ""
            raise ValueError(f"{len(unknown)} {what}{'s are' if len(unknown) > 1 else ' is'} not in the log: {shown}{hint}")
        return rows

    def _histories(self, histories: pd.DataFrame | Mapping[Any, Sequence[Any]]) -> tuple[np.ndarray, sparse.csr_matrix]:
        if isinstance(histories, pd.DataFrame):
            if histories.shape[1] < 2:
                raise ValueError("a history needs two columns, user and item")
            users, items = histories.iloc[:, 0], histories.iloc[:, 1].tolist()
            if users.isna().any():
                raise ValueError(f"row {int(users.isna().argmax()) + 1} of the history has no user")
            owner, names = pd.factorize(users)
        else:
            names = np.fromiter(histories, dtype=object, count=len(histories))
            owner = np.repeat(np.arange(len(names)), [len(its) for its in histories.values()])
            items = [i for its in histories.values() for i in its]
        rows = self.split.train.item_ids.rows(items)
        known = rows >= 0
        counts = np.bincount(owner[known], minlength=len(names))
        if len(names) == 0 or (counts == 0).any():
            empty = ", ".join(repr(n) for n in np.asarray(names)[counts == 0][:5])
            raise ValueError(f"a history without any item of the log can't be embedded: {empty or 'no rows given'}")
        if not known.all():
            warnings.warn(
                f"{(~known).sum()} of {len(known)} items of the histories are not in the log; they play no part", stacklevel=3
            )
        matrix = sparse.csr_matrix(
            (np.ones(known.sum(), np.float32), (owner[known], rows[known])), shape=(len(names), len(self.split.train.item_ids))
        )
        matrix.sum_duplicates()
        matrix.data[:] = 1
        return np.asarray(names, dtype=object), matrix


def load(path: str | Path) -> Run:
    """A run from its directory. Raises FileNotFoundError or ValueError where there is none, or a broken one."""
    return Run(path)


def load_data(data: Data, protocol: str = "valid", **options: Any) -> tuple[Split, str | None]:
    """The split of a registered name, a path, a frame or a log, and the key of presets (None for data of one's own)."""
    if isinstance(data, Split):
        if options:
            raise ValueError(f"{data.name} is split already, so {', '.join(options)} cannot be set")
        found = data
    elif isinstance(data, Interactions):
        found = split(data, **options)
    elif isinstance(data, pd.DataFrame):
        reading = {k: options.pop(k) for k in list(options) if k.endswith("_col") or k in ("min_rating", "k_core")}
        found = split(read_interactions(data, **reading), **options)
    else:
        found = registry.load(data, **options)
    if protocol == "recbole":  # its own split: 8:1:1 at random within each user
        anew = split(concat(list(found.parts.values())), rule="random", split_seed=found.split_seed)
        found = replace(anew, name=found.name, kind=found.kind, citation=found.citation)
    return found, f"{found.kind}/{found.name}" if found.citation else None  # only what is registered has a citation


def train(
    recipe: str = "xsimgcl",
    data: Data = "ml-100k",
    *,
    out: str | Path | None = None,
    seed: int = 0,
    protocol: str = "valid",
    device: str = "cpu",
    resume: bool = False,
    config: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    preset: str | None = None,
    observe: phases.Observer | None = None,
    progress: Progress | None = None,
    on_start: Callable[[Path], None] | None = None,
    **changes: Any,
) -> Run:
    """Trains, selects, evaluates and writes a run directory.

    ``changes`` are settings of the recipe and go over ``config``, which goes over the recipe's preset for the data set.
    ``options`` go to the reader and the split (``user_col``, ``rule``, ``min_rating``, ...). ``resume`` goes on with the run in
    ``out``, which must have the same recipe, settings and data; a finished one is returned as it is. ``preset`` names the data
    set whose preset is taken where ``data`` is a Split. ``observe`` hears of steps and epochs, ``progress`` wraps the blocks of a
    ranking as ``tqdm`` does, ``on_start`` is told the run's directory before training.

    Raises:
        ValueError: an unknown recipe, setting, protocol or metric; bad data; a directory in use, or of another run.
        FloatingPointError: training diverged.
    """
    began = time.perf_counter()
    module = find(recipe)
    made, key = load_data(data, protocol, **(options or {}))
    key = preset or key
    found = vars(module).get("PRESETS", {}).get(key, {})
    named = {"select": "mrr@10"} if protocol == "recbole" and "select" in module.Config.__dataclass_fields__ else {}
    chosen, sources = configure(module, {"protocol": named, "preset": found, "config": config or {}, "set": changes})
    plan = protocols.plan(made, protocol)
    about = {
        "format": rundir.FORMAT,
        "recipe": recipe,
        "dataset": made.name,
        "seed": seed,
        "protocol": protocol,
        "preset": key,
        "settings": settings(chosen),
        "sources": sources,
        "split": {"rule": made.rule, "seed": made.split_seed},
        "fingerprint": fingerprint(made),
    }
    directory = _directory(out, about, resume)
    if resume and (directory / "result.json").exists():
        return Run(directory)
    loaded = time.perf_counter() - began
    began = time.perf_counter()
    closed = "restore" in vars(module)
    if closed:
        scorer = module.build(chosen, plan.train, rng=Streams(seed)["init"])
    else:
        phases.check(chosen)
        first = phases.start(module, chosen, plan, seed, device)
    built = time.perf_counter() - began
    # Nothing is written before here, so settings and data that are refused leave no directory behind.
    rundir.write_json(directory / "config.json", about)
    rundir.write_json(directory / "versions.json", versions(device))
    if not (directory / "log.safetensors").exists():
        rundir.write_log(directory, made.parts)
    if on_start is not None:
        on_start(directory)
    if closed:
        outcome = _Outcome(scorer, scorer.state(), plan, 0, 0, None, built, 0.0)
    else:
        outcome = _train_model(module, chosen, made, first, plan, directory, seed, device, observe, progress)
    return _finish(directory, about, outcome, loaded, progress)


class _Outcome(NamedTuple):
    scorer: Any
    state: dict[str, Tensor]
    plan: Plan
    epochs: int
    steps: int
    best_epoch: int | None
    seconds: float
    rank_seconds: float


def _train_model(
    module: ModuleType,
    config: Any,
    made: Split,
    first: phases.Phase,
    plan: Plan,
    directory: Path,
    seed: int,
    device: str,
    observe: phases.Observer | None,
    progress: Progress | None,
) -> _Outcome:
    phases.warm_up(module, config, first)
    phases.run(first, plan, config, directory, epochs=config.epochs, observe=observe, progress=progress)
    p = first.progress
    last = first
    seconds, steps, ranking, epochs = p.seconds, p.steps, p.rank_seconds, p.epoch
    if plan.protocol == "refit":
        plan = protocols.refit_plan(made)
        last = phases.start(module, config, plan, seed, device)
        # Lines of the second phase follow those of the first.
        last.progress = replace(last.progress, lines=p.lines)
        phases.run(last, plan, config, directory, epochs=p.best_epoch, name="-refit", observe=observe)
        seconds, steps = seconds + last.progress.seconds, steps + last.progress.steps
    scorer = phases.scorer(last.model, last.inputs)
    return _Outcome(scorer, last.model.state_dict(), plan, epochs, steps, p.best_epoch, seconds, ranking)


def _finish(directory: Path, about: dict[str, Any], outcome: _Outcome, loaded: float, progress: Progress | None) -> Run:
    """Weights, metrics for each user and the result: the last file written says that the run is whole."""
    plan = outcome.plan
    rundir.write_tensors(directory / "model.safetensors", outcome.state)
    began = time.perf_counter()
    metrics: dict[str, dict[str, float]] = {}
    if plan.test is not None:
        report = _test_report(outcome.scorer, plan, progress)
        metrics["test"] = report.means
        frame = pd.DataFrame({"user": plan.train.user_ids.ids[report.users], **report.per_user})
        rundir.atomically(directory / "per_user.parquet", lambda part: frame.to_parquet(part, index=False))
    if plan.select is not None and plan.selected_on == "valid":
        metrics["valid"] = phases.select_report(outcome.scorer, plan, about["settings"].get("select", "ndcg@20")).means
    result = {
        **{key: about[key] for key in ("recipe", "dataset", "seed", "protocol")},
        "epochs": outcome.epochs,
        "steps": outcome.steps,
        "best_epoch": outcome.best_epoch,
        "selected_on": plan.selected_on if outcome.best_epoch is not None else None,
        "metrics": metrics,
        "seconds": {
            "load": loaded,
            "train": outcome.seconds,
            "rank": outcome.rank_seconds + time.perf_counter() - began,
        },
        "run": str(directory),
    }
    rundir.write_json(directory / "result.json", result)
    return Run(directory)


def _test_report(scorer: Any, plan: Plan, progress: Progress | None) -> RankReport:
    if plan.test is None:
        raise ValueError(f"protocol {plan.protocol!r} leaves no test part to evaluate on")
    masks = [m.matrix for m in plan.test_mask]
    return evaluate(scorer, plan.test.matrix, mask=masks, train=plan.train.matrix, ks=phases.CUTOFFS, progress=progress)


def _directory(out: str | Path | None, about: dict[str, Any], resume: bool) -> Path:
    """Where the run goes. An unnamed run never meets an older one; a named one only to resume it."""
    if out is None:
        if resume:
            raise ValueError("resume needs the run's directory (--out DIR)")
        base = Path("runs") / f"{about['recipe']}-{about['dataset']}-seed{about['seed']}"
        number, path = 1, base
        while path.exists():
            number += 1
            path = base.with_name(f"{base.name}-{number}")
        return path
    path = Path(out)
    if not (path / "config.json").exists():
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ValueError(f"{path} exists and is not a run; choose another --out")
        if resume:
            raise ValueError(f"there is no run to resume at {path}")
        return path
    if not resume:
        raise ValueError(f"{path} holds a run already; resume it (--resume) or choose another --out")
    old = rundir.read_json(path / "config.json")
    for key in ("format", "recipe", "dataset", "seed", "protocol", "fingerprint", "settings"):
        if old.get(key) != about[key]:
            if key == "fingerprint":
                raise ValueError(
                    f"{path} was trained on other data than {about['dataset']!r} as it is now; it can't go on with these"
                )
            if key == "settings":
                told = [f"{k} {old[key].get(k)!r} -> {v!r}" for k, v in about[key].items() if old[key].get(k) != v]
                raise ValueError(
                    f"{path} has other settings ({', '.join(told)}); resume it with the same, or choose another --out"
                )
            raise ValueError(f"{path} has {key} {old.get(key)!r}, not {about[key]!r}; choose another --out")
    return path


def fingerprint(made: Split) -> str:
    """Of every part's pairs and of all ids, in order."""
    digest = hashlib.sha256()
    for name, part in made.parts.items():
        digest.update(name.encode())
        digest.update(np.asarray(part.users, dtype=np.int64).tobytes())
        digest.update(np.asarray(part.items, dtype=np.int64).tobytes())
    for vocabulary in (made.train.user_ids, made.train.item_ids):
        digest.update(pd.util.hash_array(vocabulary.ids).tobytes())
    return digest.hexdigest()


def versions(device: str = "cpu") -> dict[str, Any]:
    """What a result depends on besides its settings."""
    packages = ("graphcl", "torch", "numpy", "scipy", "pandas", "numba", "pyarrow", "safetensors")
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return {
        "python": platform.python_version(),
        "packages": found,
        "machine": platform.machine(),
        "system": platform.system(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device.startswith("cuda") else "cpu",
    }


def _frame(users: np.ndarray, item_ids: np.ndarray, items: np.ndarray, scores: np.ndarray) -> pd.DataFrame:
    """Rows of a ranking with the caller's ids; places that could not be filled are left out."""
    n, k = items.shape
    kept = items.ravel() >= 0
    users = users if users.dtype != object else pd.Series(users).infer_objects().to_numpy()
    return pd.DataFrame(
        {
            "user": np.repeat(users, k)[kept],
            "item": item_ids[items.ravel()[kept]],
            "score": scores.ravel()[kept],
            "rank": np.tile(np.arange(1, k + 1), n)[kept],
        }
    )


def _at(row: sparse.csr_matrix, place: np.ndarray, size: int) -> sparse.csr_matrix:
    """The one-row pattern ``row`` as row ``place`` of a pattern with ``size`` rows."""
    return sparse.csr_matrix((row.data, (np.repeat(place, row.nnz), row.indices)), shape=(size, row.shape[1]))
