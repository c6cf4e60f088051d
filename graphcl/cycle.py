"""Histories that go round a cycle of items, and the check of recipes on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from graphcl.interactions import Vocabulary
from graphcl.recipes.parts import batches_of, step_of
from graphcl.sequence import Sequences
from graphcl.streams import Streams
from graphcl.train import fit


def cycle(users: int = 24, items: int = 12, length: int = 5) -> tuple[Sequences, Tensor]:
    """User u has the ``length`` items from u on, round and round; the one that follows is withheld. Returns it too, int64 [users]."""
    if not 1 < length < items:
        raise ValueError(f"length must lie between 2 and {items - 1}, got {length}")
    rows = (torch.arange(users)[:, None] + torch.arange(length + 1)) % items
    pointers = torch.arange(users + 1) * length
    log = Sequences(rows[:, :-1].flatten(), pointers, Vocabulary(np.arange(users)), Vocabulary(np.arange(items)))
    return log, rows[:, -1]


def check_next_item(
    module: ModuleType,
    undisturbed: Callable[[], AbstractContextManager[None]],
    epochs: int,
    least: float,
    settings: Mapping[str, Any],
) -> float:
    """Share of users for whom the withheld item of :func:`cycle` comes first among those they have not had; has to be ``least``."""
    fields: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(module.Config)}
    fast: dict[str, Any] = {
        "dim": 16, "inner": 32, "max_length": 8, "batch_size": 16, "learning_rate": 0.01, "dropout": 0.1, "attention_dropout": 0.1,
        "semantics": "random", "num_neighbours": 2, "num_negatives": 8,
    }  # fmt: skip
    # weights of contrasts are small: with large ones the few histories would rather keep apart than agree on an item
    fast |= {name: min(default, 0.02) for name, default in fields.items() if name.endswith("weight")}
    config = module.Config(**{**{k: v for k, v in fast.items() if k in fields}, **settings})
    log, withheld = cycle()
    streams = Streams(0)
    before = log.items.clone(), log.pointers.clone()
    with undisturbed():
        built = module.build(config, log, rng=streams["init"])
        if isinstance(built, nn.Module):
            step, batches = step_of(module, config, built), batches_of(module, config, log)  # type: ignore[arg-type]
            for epoch in fit(built, log, step=step, batches=batches, streams=streams, epochs=epochs):  # type: ignore[arg-type]
                assert epoch.steps > 0, "an epoch without steps"
        histories = log.items.view(log.num_users, -1)
        scores = built.score(histories, log.lengths)
    assert all(map(torch.equal, before, (log.items, log.pointers))), "the training data were written to"
    assert scores.shape == (log.num_users, log.num_items), f"scores of shape {tuple(scores.shape)}"
    assert bool(scores.isfinite().all()), "scores are not finite"
    assert built.num_items == log.num_items, f"a model of {built.num_items} items for {log.num_items}"
    first = scores.scatter(1, histories, -torch.inf).argmax(1)
    share = float((first == withheld).double().mean())
    assert share >= least, f"the item that follows comes first for {share:.0%} of users, not for {least:.0%}"
    return share
