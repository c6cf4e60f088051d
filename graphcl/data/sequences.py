"""Item histories from any log with an order: reading, and what is held out of them.

Rows follow the log's own vocabularies; nothing is renumbered by degree, for no graph is made of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pandas as pd
import torch

from graphcl.data import registry, rules
from graphcl.data.config import NODE_FORMATS
from graphcl.data.filter import filtered
from graphcl.data.nearest import nearest
from graphcl.data.read import read_interactions
from graphcl.data.source import expanded
from graphcl.data.split import cut_times, enough_to_learn, three_ratios
from graphcl.interactions import Interactions
from graphcl.sequence import NextItems, Sequences, in_order

RULES = ("leave_one_out", "global_time", "all")
READING = ("format", "user_col", "item_col", "time_col", "rating_col")
SPLITTING = ("rule", "ratios", "cuts", "targets")


@dataclass(frozen=True, eq=False)
class SequenceSplit:
    """A log's histories, the part of each that is trained on, and what is guessed. ``train`` holds no held-out item."""

    name: str
    log: Sequences
    train: Sequences  # of each user the first items
    valid: NextItems | None
    test: NextItems | None
    rule: str
    citation: str = ""
    kind: str = "sequential"


Source: TypeAlias = str | Path | pd.DataFrame | Interactions | SequenceSplit


def split_sequences(
    log: Interactions,
    *,
    rule: str = "leave_one_out",
    ratios: Sequence[float] | None = None,
    cuts: Sequence[Any] | None = None,
    targets: Literal["first", "all"] = "first",
) -> SequenceSplit:
    """Part every history by a rule. Repeats stay, and every part of a history follows the one before.

    ============= ===================================================================================================
    leave_one_out a user's last item is test, the one before it validation; those with fewer than 3 only train
    global_time   items before a cut train, up to the next cut they validate, from there on they test; cuts by shares
                  of the rows (``ratios``, by default .8, .1, .1), or given as times ``(valid, test)`` or ``(test,)``
    all           everything trains
    ============= ===================================================================================================

    ``targets``, by global_time: of a user's items in a part the ``"first"`` alone is guessed, or ``"all"``, each from everything
    before it. An item that its user had nothing before is not guessed, for there is nothing to guess from.

    Raises: ValueError for an unknown rule, options of another one, no times where they are needed, or a part that stays empty.
    """
    if rule not in RULES:
        raise ValueError(f"sequences have no split rule {rule!r}{nearest(rule, RULES)}; known: {', '.join(RULES)}")
    if targets not in ("first", "all"):
        raise ValueError(f"targets must be 'first' or 'all', got {targets!r}")
    given = {"ratios": ratios, "cuts": cuts, "targets": None if targets == "first" else targets}
    wrong = [key for key, value in given.items() if value is not None]
    if wrong and rule != "global_time":
        raise ValueError(f"{', '.join(wrong)}: for split rule 'global_time' alone, not for {rule!r}")
    enough_to_learn(log)
    histories = Sequences.from_interactions(log)
    if rule == "all":
        return SequenceSplit(log.name, histories, histories, None, None, rule)
    if rule == "global_time":
        return _by_time(log, histories, ratios, cuts, targets)
    lengths, ends = histories.lengths, histories.pointers[1:]
    users = (lengths >= 3).nonzero()[:, 0]
    if not len(users):
        raise ValueError(f"{log.name}: no user has three rows, and to leave one out for test and one for validation takes three")
    train = histories.first(torch.where(lengths >= 3, lengths - 2, lengths))
    valid, test = (NextItems(histories, users, ends[users] - back) for back in (2, 1))
    return SequenceSplit(log.name, histories, train, valid, test, rule)


def _by_time(
    log: Interactions, histories: Sequences, ratios: Sequence[float] | None, cuts: Sequence[Any] | None, targets: str
) -> SequenceSplit:
    if log.time is None:
        raise ValueError(f"{log.name}: split rule 'global_time' needs a time column (time_col=, --time-col)")
    if ratios is not None and cuts is not None:
        raise ValueError("give ratios or cuts, not both")
    times = rules.quantile_cuts(log.time, three_ratios(ratios)) if cuts is None else cut_times(cuts)
    ordered = torch.from_numpy(log.time[in_order(log)])
    owners = histories.users
    before = [torch.zeros(histories.num_users, dtype=torch.int64).index_add_(0, owners, (ordered < t).long()) for t in times]
    ends = [*before, histories.lengths]  # of each user: how many items stand before each cut, and altogether

    def part(number: int) -> NextItems:
        first, stop = (histories.pointers[:-1] + end for end in ends[number : number + 2])
        if targets == "first":
            users = (first < stop).nonzero()[:, 0]
            places = first[users]
        else:
            places = torch.arange(len(owners))
            places = places[(places >= first[owners]) & (places < stop[owners])]
            users = owners[places]
        known = places > histories.pointers[users]
        return NextItems(histories, users[known], places[known])

    train = histories.first(before[0])
    held = [part(number) for number in range(len(times))]
    for name, size in (("train", len(train.items)), *zip(("valid", "test")[-len(held) :], map(len, held), strict=True)):
        if not size:
            raise ValueError(f"{log.name}: the cuts {', '.join(f'{t:g}' for t in times)} leave nothing to {name}; change them")
    return SequenceSplit(log.name, histories, train, held[0] if len(held) == 2 else None, held[-1], "global_time")


def load_sequences(source: Source, **options: Any) -> SequenceSplit:
    """Histories of a registered data set (looked for in the group sequential first), a path, a frame or a log.

    ``options``: ``rule``, ``ratios``, ``cuts`` and ``targets`` of `split_sequences`; ``min_rating`` and ``k_core``; for what is read
    ``format``, ``user_col``, ``item_col``, ``time_col`` and ``rating_col``. A registered set keeps its own threshold unless told.

    Raises: what reading and splitting raise; ValueError for an option that does not fit, and for data that come already split.
    """
    known = (*SPLITTING, "min_rating", "k_core", *READING)
    for key in options:
        if key not in known:
            told = "histories are split without a draw" if key == "split_seed" else f"known: {', '.join(known)}"
            raise ValueError(f"{key} cannot be set for sequences ({told})")
    if isinstance(source, SequenceSplit):
        if options:
            raise ValueError(f"{source.name} is split already, so {', '.join(options)} cannot be set")
        return source
    splitting = {key: options.pop(key) for key in SPLITTING if key in options}
    if isinstance(source, Interactions):
        reading = [key for key in READING if key in options]
        if reading:
            raise ValueError(f"{source.name} is read already, so {', '.join(reading)} cannot be set")
        return split_sequences(filtered(source, options), **splitting)
    if isinstance(source, pd.DataFrame):
        return split_sequences(read_interactions(source, **options), **splitting)
    if not isinstance(source, (str, Path)):
        told = "the Interactions or graphcl.data.sequences.split_sequences(log)"
        raise ValueError(f"sequences need a whole log: a name, a path, a DataFrame, {told}, got {type(source).__name__}")
    config = registry.configured(source, "sequential")
    if config is None:
        path = expanded(source)
        files = registry.split_files_in(path) if path.is_dir() else {"log": path}
        if "log" not in files:
            raise ValueError(
                f"{path}: {' and '.join(p.name for p in files.values())} come already split; sequences need a whole log"
            )
        if files["log"].suffix == ".npz":
            raise ValueError(f"{files['log']}: a matrix keeps no order of a user's items, so it holds no sequences; give a log")
        return split_sequences(read_interactions(files["log"], **options), **splitting)
    if config.format in NODE_FORMATS or "log" not in config.files:
        held = config.what if config.format in NODE_FORMATS else "already split"
        raise ValueError(f"{config.full_name} is {held}, but sequences need a whole log in order")
    wrong = [key for key in READING if key in options]
    if wrong:
        raise ValueError(f"{config.full_name} is registered with its format; {', '.join(wrong)} cannot be set for it")
    paths = registry.locate(config)
    registry.check_sums(config, paths)
    (log,) = registry.read_parts(config.full_name, {"log": paths["log"]}, {"format": config.format, **config.columns}).values()
    registry.check_counts(config, {"log": len(log)}, ("log",))
    own: dict[str, Any] = {key: config.split[key] for key in ("min_rating", "k_core") if key in config.split}
    log = filtered(log, {**own, **options})
    if not options:
        registry.check_counts(config, {"users": log.num_users, "items": log.num_items}, ("users", "items"))
    return replace(split_sequences(log, **splitting), name=config.name, kind=config.group, citation=config.citation)
