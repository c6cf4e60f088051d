"""Runs on sequences: train on histories, rank each held-out next item, recommend from any history."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import sparse
from torch import Tensor

from graphcl import claims, geometry, rundir
from graphcl import phase as phases
from graphcl.data.fingerprint import of_histories
from graphcl.data.registry import full_name
from graphcl.data.sequences import SequenceSplit, Source, load_sequences
from graphcl.metrics import RANKS, parse
from graphcl.phase import Observer, Phase, Progress
from graphcl.rank import TILE_CPU, DotScorer, at_most, top_k
from graphcl.recipes.configure import configure, find, preset_of, settings
from graphcl.run import known_items, listed, ranked_frame, rows_of
from graphcl.sequence import NextItems, Sequences
from graphcl.sequence_rank import CUTOFFS, HistoryScorer, NextReport, evaluate_next
from graphcl.sequence_rank import Progress as Ranking
from graphcl.streams import Streams
from graphcl.train import Epoch

PROTOCOLS = ("valid", "all")


class ItemEmbeddings(NamedTuple):
    """What a trained model knows of each item, in the order of the ids."""

    item_ids: np.ndarray  # [I]
    items: np.ndarray  # [I, d] float32


class SequenceRun(rundir.Finished):
    """A finished run on sequences, read from its directory; it needs neither the data it was trained on nor the settings again."""

    @cached_property
    def split(self) -> SequenceSplit:
        return read_split(self.path, self.config)

    @cached_property
    def scorer(self) -> HistoryScorer:
        """What ranks: the trained model in evaluation mode, or the closed form."""
        _ = self.result  # says so where the run is unfinished
        tensors, _ = rundir.read_tensors(self.path / "model.safetensors")
        if "restore" in vars(self.recipe):
            return self.recipe.restore(self._settings, self.split.train, tensors)
        build = vars(self.recipe).get("ranker", self.recipe.build)
        model = build(self._settings, self.split.train, rng=Streams(self.config["seed"])["init"])
        weights: dict[str, Tensor] = tensors
        if "ranker" in vars(self.recipe):  # it is a part of the model that was trained
            weights = {name: tensors[name] for name in model.state_dict() if name in tensors}
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"{self.path}: the weights do not fit the recipe ({error})") from None
        return model.eval()

    def recommend(
        self,
        users: Iterable[Any] | None = None,
        *,
        histories: pd.DataFrame | Mapping[Any, Sequence[Any]] | None = None,
        k: int = 20,
        exclude_seen: bool = True,
        progress: Ranking | None = None,
    ) -> pd.DataFrame:
        """The ``k`` best next items of each user, best first: columns user, item, score, rank (from 1), ids as they came in.

        ``users``: ids of the log, from their whole histories, held-out items too; None takes all. ``histories``: items of anybody,
        oldest first, as ``{user: [item, ...]}`` or a frame with the log's columns of users and items (or well-known ones; else its
        first two), in order of its times where it has some; a known user's own history is not added, and items that the log has not
        play no part, which a warning says. ``exclude_seen`` leaves out every item of the history. Users with fewer than ``k`` items left
        get fewer rows.

        Raises:
            ValueError: users that are not in the log, a history without any known item, both arguments at once, k < 1.
        """
        log = self.split.log
        if histories is not None:
            if users is not None:
                raise ValueError("give users or histories, not both")
            names, owner, items = known_items(histories, log.item_ids, self.config)
            log = given_histories(owner, items, len(names), log)
            rows = np.arange(len(names))
        else:
            ids = log.user_ids.ids if users is None else list(listed(users, "users"))
            rows = np.arange(len(ids)) if users is None else rows_of(log.user_ids, ids, "user")
            rows = rows[log.lengths.numpy()[rows] > 0]
            names = log.user_ids.ids[rows]
        seen = pattern_of(log) if exclude_seen else None
        items, scores = top_k(self._by_rows(log), torch.from_numpy(rows), at_most(log.num_items, k), seen=seen, progress=progress)
        return ranked_frame(names, log.item_ids.ids, items, scores)

    def similar(self, item: Any, k: int = 20) -> pd.DataFrame:
        """The ``k`` items nearest to one item: columns item, score, rank. By cosine of item vectors, or for a recipe without them
        by the score that a history of this one item gives.

        Raises:
            ValueError: an item that is not in the log.
        """
        log = self.split.log
        row = rows_of(log.item_ids, [item], "item")
        vectors = item_vectors(self.scorer)
        only = given_histories(np.zeros(1, dtype=np.int64), row, 1, log)
        by: Any = self._by_rows(only)
        if vectors is not None:
            table = torch.nn.functional.normalize(vectors, dim=1)
            by = DotScorer(table[row], table)
        items, scores = top_k(by, torch.zeros(1, dtype=torch.int64), at_most(log.num_items - 1, k), seen=pattern_of(only))
        return ranked_frame(np.asarray([item], dtype=object), log.item_ids.ids, items, scores).drop(columns="user")

    def embeddings(self) -> ItemEmbeddings:
        """Raises ValueError for a recipe without item vectors."""
        vectors = item_vectors(self.scorer)
        if vectors is None:
            raise ValueError(f"{self.config['recipe']} has no item vectors")
        return ItemEmbeddings(self.split.log.item_ids.ids, vectors.numpy())

    def evaluate(self, *, progress: Ranking | None = None) -> dict[str, dict[str, float]]:
        """Ranks the test items again: ``test``, and ``test_masked`` with seen items masked."""
        if self.split.test is None:
            raise ValueError(f"protocol {self.config['protocol']!r} leaves no test part to evaluate on")
        return by_part("test", evaluated(self.scorer, self.split.test, self._settings, progress=progress))

    def geometry(self) -> dict[str, float]:
        """How item vectors lie (:func:`graphcl.geometry.of_items`); nothing for a recipe without them."""
        return lie_of(self.scorer)

    def _by_rows(self, histories: Sequences) -> _ByRows:
        return _ByRows(self.scorer, histories, vars(self._settings).get("max_length"))


class _ByRows:
    """Takes rows of histories where the scorer takes the histories themselves."""

    def __init__(self, scorer: HistoryScorer, histories: Sequences, max_length: int | None):
        self.scorer, self.histories, self.max_length = scorer, histories, max_length
        self.num_items = scorer.num_items

    @torch.no_grad()
    def score(self, users: Tensor) -> Tensor:  # [b] -> [b, I]
        lengths = self.histories.lengths[users]
        longest = min(int(lengths.max()), self.max_length or TILE_CPU)
        some = users.split(max(1, TILE_CPU // max(1, longest)))  # histories are filled to the longest of those scored together
        return torch.cat([self.scorer.score(*self.histories.histories(each, self.max_length)) for each in some])


def given_histories(owner: np.ndarray, items: np.ndarray, count: int, log: Sequences) -> Sequences:
    """Histories [count] of items [m] in the order given, ``owner`` [m] saying whose each is."""
    order = np.argsort(owner, kind="stable")
    pointers = np.concatenate([[0], np.bincount(owner, minlength=count).cumsum()])
    return replace(log, items=torch.from_numpy(items[order]), pointers=torch.from_numpy(pointers))


def pattern_of(log: Sequences) -> sparse.csr_matrix:
    """[U, I], which items stand in whose history."""
    entries = (np.ones(len(log.items), dtype=np.int8), (log.users.numpy(), log.items.numpy()))
    matrix = sparse.csr_matrix(entries, shape=(log.num_users, log.num_items), dtype=np.int8)
    matrix.sum_duplicates()
    return matrix


def item_vectors(scorer: Any) -> Tensor | None:  # [I, d]
    """What the model's ``item_vectors()`` gives, or None where it has no such method."""
    found = getattr(scorer, "item_vectors", None)
    return None if found is None else found().detach().float().cpu()


def lie_of(scorer: Any) -> dict[str, float]:
    vectors = item_vectors(scorer)
    return {} if vectors is None else geometry.of_items(vectors)


def load_split(data: Source, protocol: str, options: Mapping[str, Any]) -> SequenceSplit:
    """Raises ValueError for bad data or options, a protocol that sequences do not have, or a split that it does not fit."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol {protocol!r} is for users and items without order; sequences have {' and '.join(PROTOCOLS)}")
    if protocol == "all":
        whole = load_sequences(data, **{"rule": "all", **options} if not isinstance(data, SequenceSplit) else options)
        return replace(whole, train=whole.log, valid=None, test=None, rule="all")
    made = load_sequences(data, **options)
    if made.valid is None:
        raise ValueError(
            f"{made.name}: protocol 'valid' chooses the epoch on validation, and split rule {made.rule!r} left no such part; "
            "give another rule, three ratios or two cuts, or take protocol 'all'"
        )
    return made


@claims.training
def train(
    recipe: str,
    data: Source,
    *,
    out: str | Path | None = None,
    seed: int = 0,
    protocol: str = "valid",
    device: str = "cpu",
    resume: bool = False,
    config: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    preset: str | None = None,
    observe: Observer | None = None,
    progress: Ranking | None = None,
    on_start: Callable[[Path], None] | None = None,
    **changes: Any,
) -> SequenceRun:
    """Trains on histories, chooses the epoch on validation, ranks the test items and writes a run directory; arguments as of
    ``graphcl.train``. ``options`` go to `graphcl.data.sequences.load_sequences`.

    Every part of the result has its pair: ``test`` and ``valid`` with a user's seen items kept in the ranking, ``test_masked`` and
    ``valid_masked`` without them. The setting ``seen`` says which of the two validation ones chooses.

    Raises:
        ValueError: an unknown recipe or setting, bad data, a protocol that sequences do not have, a directory in use, or of another run.
        FloatingPointError: training diverged.
    """
    began = time.perf_counter()
    module = find(recipe)
    split = load_split(data, protocol, options or {})
    key = preset or full_name(split.kind, split)
    chosen, sources = configure(module, {"preset": preset_of(module, key), "config": config or {}, "set": changes})
    about = {
        "format": rundir.FORMAT, "kind": "sequential", "recipe": recipe, "dataset": split.name, "seed": seed, "protocol": protocol,
        "preset": key, "settings": settings(chosen), "sources": sources, "split": {"rule": split.rule},
        "fingerprint": of_histories(split), **rundir.digests(module, chosen), **rundir.given(data, options),
    }  # fmt: skip
    directory = claims.claim(out, about, resume)
    if resume and claims.is_done(directory, about):
        return SequenceRun(directory)
    loaded = time.perf_counter() - began
    began = time.perf_counter()
    phase = None
    if "restore" in vars(module):
        scorer = module.build(chosen, split.train, rng=Streams(seed)["init"])
    else:
        check(chosen)
        phase = phases.start(module, chosen, split.train, seed, device)
        scorer = phase.model
    moved = Progress(seconds=time.perf_counter() - began)
    directory = claims.write_beginning(out, about, device, resume)
    write_split(directory, split)
    if on_start is not None:
        on_start(directory)
    if phase is not None:
        phases.warm_up(module, chosen, phase)
        moved = run(phase, chosen, split, directory, device=device, observe=observe, progress=progress).progress
        phase.model.eval()
    rundir.write_tensors(directory / "model.safetensors", scorer.state() if phase is None else phase.model.state_dict())
    began = time.perf_counter()
    metrics: dict[str, dict[str, float]] = {}
    users = {}
    for part, held_out in (("test", split.test), ("valid", split.valid)):
        if held_out is not None:
            report = evaluated(scorer, held_out, chosen, device="cpu" if phase is None else device, progress=progress)
            metrics |= by_part(part, report)
            users[part] = len(report.users)
            if part == "test":
                frame = pd.DataFrame({"user": split.log.user_ids.ids[report.users], **report.per_user})
                rundir.atomically(directory / "per_user.parquet", lambda path, frame=frame: frame.to_parquet(path, index=False))  # type: ignore[misc]
    if lie := lie_of(scorer):
        metrics["embedding"] = lie
    rundir.write_result(
        directory, about, epochs=moved.epoch, steps=moved.steps, best_epoch=moved.best_epoch,
        selected_on="valid" if phase is not None and split.valid is not None else None, metrics=metrics, users=users,
        seconds={"load": loaded, "train": moved.seconds, "rank": moved.rank_seconds + time.perf_counter() - began},
    )  # fmt: skip
    return SequenceRun(directory)


def check(config: Any) -> None:
    """Raises ValueError for settings that cannot steer training."""
    phases.check(config)
    if parse(config.select).name not in RANKS:
        raise ValueError(f"cannot select on {config.select!r}; sequences have {', '.join(RANKS)} with a cut-off, such as ndcg@10")


def run(
    phase: Phase,
    config: Any,
    split: SequenceSplit,
    directory: Path | None,
    *,
    device: str = "cpu",
    observe: Observer | None = None,
    progress: Ranking | None = None,
) -> Phase:
    """`graphcl.phase.epochs_of` with the epoch chosen on the validation items, seen ones kept or masked as ``config.seen`` says."""
    valid = split.valid
    model: Any = phase.model

    def assess(_: Epoch, due: bool) -> phases.Assessed:
        if not due:
            return {}, None
        assert valid is not None
        report = evaluated(model.eval(), valid, config, device=device, progress=progress)
        return by_part("valid", report), report.means(config.seen)[parse(config.select).key]

    return phases.epochs_of(
        phase, config, directory, None if valid is None else assess, epochs=config.epochs, observe=observe
    )  # fmt: skip


def evaluated(
    scorer: HistoryScorer, held_out: NextItems, config: Any, *, device: str = "cpu", progress: Ranking | None = None
) -> NextReport:
    """At the usual cut-offs and, for a trained recipe, the one that chooses."""
    chosen = vars(config)
    ks = sorted({*CUTOFFS, parse(chosen["select"]).k} if "select" in chosen else CUTOFFS)
    return evaluate_next(scorer, held_out, ks=ks, max_length=chosen.get("max_length"), device=device, progress=progress)


def by_part(name: str, report: NextReport) -> dict[str, dict[str, float]]:
    return {name: report.keep, f"{name}_masked": report.mask}


def write_split(directory: Path, split: SequenceSplit) -> None:
    """Every history, how much of each is trained on, what is held out, and the ids of users and items."""
    rundir.write_ids(directory, users=split.log.user_ids.ids, items=split.log.item_ids.ids)
    tensors = {"items": split.log.items.int(), "pointers": split.log.pointers, "lengths": split.train.lengths}
    for part, held_out in (("valid", split.valid), ("test", split.test)):
        if held_out is not None:
            tensors[part] = held_out.places
    rundir.write_tensors(directory / "log.safetensors", tensors)


def read_split(directory: Path, config: Mapping[str, Any]) -> SequenceSplit:
    tensors, _ = rundir.read_tensors(directory / "log.safetensors")
    log = Sequences(tensors["items"].long(), tensors["pointers"], *rundir.read_vocabularies(directory))
    held_out = {}
    for part in {"valid", "test"} & set(tensors):
        users = torch.searchsorted(log.pointers, tensors[part], right=True) - 1
        held_out[part] = NextItems(log, users, tensors[part])
    train = log.first(tensors["lengths"])
    return SequenceSplit(config["dataset"], log, train, held_out.get("valid"), held_out.get("test"), config["split"]["rule"])
