"""A finished run: recommendations, neighbours, embeddings and evaluation by the caller's own ids."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import sparse

from graphcl import geometry, rundir
from graphcl import phase as phases
from graphcl.data import protocol as protocols
from graphcl.data import registry
from graphcl.data.columns import are_dates, numbers_of, role, seconds_of
from graphcl.data.protocol import Plan
from graphcl.data.split import Split
from graphcl.interactions import Vocabulary, concat
from graphcl.metrics import KNOWN
from graphcl.rank import DotScorer, Progress, RankReport, at_most, evaluate, top_k
from graphcl.recipes.model import Model
from graphcl.recipes.parts import inputs_of, scorer_of
from graphcl.streams import Streams


class Embeddings(NamedTuple):
    """What a trained model knows of each user and item, in the order of the ids."""

    user_ids: np.ndarray  # [U]
    users: np.ndarray  # [U, d] float32
    item_ids: np.ndarray  # [I]
    items: np.ndarray  # [I, d] float32


class Run(rundir.Finished):
    """A finished run, read from its directory; it needs neither the data it was trained on nor the settings again."""

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
        if protocols.find(self.config["protocol"]).refits_on:
            return protocols.refit_plan(self.split, self.config["protocol"])
        return protocols.plan(self.split, self.config["protocol"])

    @cached_property
    def _restored(self) -> tuple[Any, Any, DotScorer | None]:
        """Model and graph (or the Scorer and None), and what scores."""
        _ = self.result  # says so where the run is unfinished
        config = self._settings
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

    @cached_property
    def scorer(self):
        model, _, dots = self._restored
        if dots is None:
            return model
        return scorer_of(self.recipe, self._settings, self.plan.train, dots)

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
        ``{user: [item, ...]}`` or a frame with the log's columns of users and items (or well-known ones; else its first two), of which
        rows go whose rating the log would not have kept; they are embedded from these items alone: a known user's own history is not
        added, and items that the log has not play no part, which a warning says, as it does of users whom training has seen nothing of.
        ``exclude_seen`` leaves out every interaction of the log (of the history). Users with fewer than ``k`` items left get fewer rows.

        Raises:
            ValueError: users that are not in the log, a history without any known item, both arguments at once, k that is no whole
                number above 0.
        """
        if histories is not None:
            if users is not None:
                raise ValueError("give users or histories, not both")
            names, owner, items = known_items(histories, self.split.train.item_ids, self.config)
            rows = _pattern_of(owner, items, (len(names), self.split.train.num_items))
            seen = rows if exclude_seen else None
        else:
            ids = self.split.train.user_ids.ids if users is None else list(listed(users, "users"))
            found = np.arange(len(ids)) if users is None else rows_of(self.split.train.user_ids, ids, "user")
            names, rows = self.split.train.user_ids.ids[found], torch.from_numpy(found)
            if cold := num_cold(self.plan, found):
                warnings.warn(
                    f"{cold} of {len(found)} users have nothing in the part that was trained on, so their items are no better than "
                    "drawn; give what is known of them as histories (--history)",
                    stacklevel=2,
                )
            seen = self._seen if exclude_seen else None
        items, scores = top_k(self.scorer, rows, at_most(self.scorer.num_items, k), seen=seen, progress=progress)
        return ranked_frame(names, self.split.train.item_ids.ids, items, scores)

    def similar(self, item: Any, k: int = 20) -> pd.DataFrame:
        """The ``k`` items nearest to one item: columns item, score, rank. By cosine of embeddings, or for a recipe without
        embeddings by the score that a history of this one item gives.

        Raises:
            ValueError: an item that is not in the log.
        """
        row = rows_of(self.split.train.item_ids, [item], "item")
        num_items, learned = self.split.train.num_items, self._restored[2]
        only = sparse.csr_matrix(([1.0], ([0], row)), shape=(1, num_items), dtype=np.float32)
        by, asked = self.scorer, only
        if learned is not None:
            table = torch.nn.functional.normalize(learned.items, dim=1)
            by, asked = DotScorer(table[row], table), torch.zeros(1, dtype=torch.int64)
        items, scores = top_k(by, asked, at_most(num_items - 1, k), seen=only)
        return ranked_frame(np.asarray([item], dtype=object), self.split.train.item_ids.ids, items, scores).drop(columns="user")

    def embeddings(self) -> Embeddings:
        """Raises ValueError for a recipe without embeddings (the floor)."""
        train, dots = self.split.train, self._restored[2]
        if dots is None:
            raise ValueError(f"{self.config['recipe']} has no embeddings: it scores by counts or item weights")
        return Embeddings(train.user_ids.ids, dots.users.cpu().numpy(), train.item_ids.ids, dots.items.cpu().numpy())

    def model(self) -> tuple[Model, Any]:
        """The trained model and the graph it propagates through: ``model.embed(inputs)`` is the vectors of users, then of items, and
        ``model.readout(model.layers(inputs))`` the same with gradients, to train ``model.parameters()`` on.

        Raises:
            ValueError: a closed-form recipe, which has no parameters.
        """
        model, inputs, _ = self._restored
        if not isinstance(model, Model):
            raise ValueError(f"{self.config['recipe']} has no parameters: it is a closed form")
        return model, inputs

    def evaluate(self, *, progress: Progress | None = None) -> RankReport:
        """Ranks the test part again, under the run's protocol."""
        return test_report(self.scorer, self.plan, progress)

    def geometry(self) -> dict[str, float]:
        """How the embeddings lie (:func:`graphcl.geometry.of_pairs`), on what was trained on; nothing for the floor, which has none."""
        dots = self._restored[2]
        return {} if dots is None else geometry.of_pairs(dots.users, dots.items, self.plan.train.matrix)


def _pattern_of(owner: np.ndarray, rows: np.ndarray, shape: tuple[int, int]) -> sparse.csr_matrix:
    matrix = sparse.csr_matrix((np.ones(len(rows), np.float32), (owner, rows)), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


def rows_of(vocabulary: Vocabulary, ids: Any, what: str) -> np.ndarray:
    """Raises ValueError naming ids that are not in the log."""
    rows = vocabulary.rows(ids)
    if (rows < 0).any():
        unknown = [ids[i] for i in np.flatnonzero(rows < 0)]
        hint = "; for people who are not in it, give their items as histories (--history)" if what == "user" else ""
        raise ValueError(f"{len(unknown)} {what}{'s are' if len(unknown) > 1 else ' is'} not in the log: {_shown(unknown)}{hint}")
    return rows


def _shown(ids: Sequence[Any]) -> str:
    return ", ".join(repr(i) for i in ids[:5]) + (", ..." if len(ids) > 5 else "")


def rating_threshold(config: Mapping[str, Any]) -> float | None:
    """Of the ratings that a run was trained on: as asked for, else as the registered data set has it."""
    if "min_rating" in config.get("options", {}):
        return config["options"]["min_rating"]  # type: ignore[no-any-return]
    try:
        group = (config["preset"] or "").partition("/")[0] or None
        known = registry.configured(config["data"], group) if "data" in config else None
    except (ValueError, FileNotFoundError):  # the file that was trained on is gone
        known = None
    return known.split.get("min_rating") if known else None


def _column(table: pd.DataFrame, columns: Mapping[str, str], what: str) -> Any:
    """The name of the log's column, else the plain one, else one that is well known; None where there is none of these.

    Raises:
        ValueError: two well-known ones of users or of items.
    """
    asked = columns.get(f"{what}_col")
    if asked == "" and what in ("time", "rating"):
        return None
    for name in (asked, what):
        if name is not None and name in table:
            return name
    like = [name for name in table if role(str(name)) == what and name != "score"]  # which is what recommend calls its own
    if len(like) > 1 and what in ("user", "item"):
        both = " and ".join(repr(name) for name in like)
        raise ValueError(f"a history's columns {both} could each be the {what}; call one of them {what!r}")
    return like[0] if like else None


def _columns_of(table: pd.DataFrame, config: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, list[Any]]:
    """Names [n] of the users, and of every row whose it is and its item: by the names of the log's columns, else by user and item or
    well-known names, else the first two. In order of time where the table has that, and without rows whose rating the run's log would
    not have kept.

    Raises:
        ValueError: only one column, a user without an item or the other way round, or a user, time or rating that is missing or none.
    """
    if table.shape[1] < 2:
        raise ValueError("a history needs two columns, user and item")
    user, item, time, rating = (_column(table, config.get("columns", {}), what) for what in ("user", "item", "time", "rating"))
    if (user is None) != (item is None):
        here, lacking = (user, "item") if item is None else (item, "user")
        raise ValueError(
            f"a history has a column {here!r}, but none for the {lacking}; its columns are {', '.join(map(str, table))}"
        )

    def where(row: int) -> str:
        return f"row {row + 1} of the history"

    users, items = (table.iloc[:, 0], table.iloc[:, 1]) if user is None else (table[user], table[item])
    if users.isna().any():
        raise ValueError(f"{where(int(users.isna().argmax()))} has no user")
    order = np.arange(len(table))
    if time is not None:
        order = np.argsort(seconds_of(table[time], "time", where, dates=are_dates(table[time])), kind="stable")
    owner, names = pd.factorize(users.iloc[order])
    threshold = rating_threshold(config)
    if rating is not None and threshold is not None:
        kept = numbers_of(table[rating], "rating", where)[order] >= threshold
        owner, order = owner[kept], order[kept]
    return names, owner, items.iloc[order].tolist()


def known_items(
    histories: pd.DataFrame | Mapping[Any, Sequence[Any]], item_ids: Vocabulary, config: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Names [n] of those whose histories are given, and of every item that the log has whose it is and its row, in the order given.
    Whoever has no item that the log has is left out, which a warning says.

    Raises:
        ValueError: no two columns, a row without a user, a text where a list of items is meant, or nobody with a known item.
    """
    if isinstance(histories, pd.DataFrame):
        names, owner, items = _columns_of(histories, config)
    elif not isinstance(histories, Mapping):
        raise ValueError(f"histories are a table, or items by user ({{user: [item, ...]}}), got {type(histories).__name__}")
    else:
        histories = {name: list(listed(its, f"the history of {name!r}")) for name, its in histories.items()}
        names = np.fromiter(histories, dtype=object, count=len(histories))
        owner = np.repeat(np.arange(len(names)), [len(its) for its in histories.values()])
        items = [i for its in histories.values() for i in its]
    rows = item_ids.rows(items)
    known = rows >= 0
    counts = np.bincount(owner[known], minlength=len(names))
    names = np.asarray(names, dtype=object)
    if not counts.any():
        threshold = rating_threshold(config) if isinstance(histories, pd.DataFrame) else None
        low = f" rated {threshold:g} or more" if threshold else ""
        given = f"; it has none of {_shown(items)}" if len(items) else ""
        raise ValueError(f"there is no history with an item of the log{low}{given}" if len(names) else "there is no history")
    if not counts.all():
        told = f"{(counts == 0).sum()} histories hold no item of the log and are left out: {_shown(names[counts == 0])}"
        warnings.warn(told, stacklevel=3)
    if not known.all():
        warnings.warn(
            f"{(~known).sum()} of {len(known)} items of the histories are not in the log; they play no part", stacklevel=3
        )
    numbers = np.cumsum(counts > 0) - 1
    return names[counts > 0], numbers[owner[known]], rows[known]


def num_cold(plan: Plan, users: np.ndarray) -> int:
    """How many of some rows of users have nothing in what is trained on."""
    return int((np.diff(plan.train.matrix.indptr)[users] == 0).sum())


def listed(ids: Any, what: str) -> Any:
    """Raises ValueError for a text, which would be taken letter by letter, and for what is no list."""
    if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable):
        raise ValueError(f"{what} must be a list of ids, got {'the text ' if isinstance(ids, str) else ''}{ids!r}")
    return ids


def test_report(scorer: Any, plan: Plan, progress: Progress | None) -> RankReport:
    if plan.test is None:
        raise ValueError(f"protocol {plan.protocol!r} leaves no test part to evaluate on")
    masks, train = [m.matrix for m in plan.test_mask], plan.train.matrix
    report = evaluate(scorer, plan.test.matrix, mask=masks, train=train, ks=phases.CUTOFFS, metrics=KNOWN, progress=progress)
    # A slice in which nobody has a held-out item has no mean, and JSON has no NaN.
    return replace(report, means={key: value for key, value in report.means.items() if value == value})


def ranked_frame(users: np.ndarray, item_ids: np.ndarray, items: np.ndarray, scores: np.ndarray) -> pd.DataFrame:
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
