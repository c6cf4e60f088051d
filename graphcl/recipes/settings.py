"""Settings that every trained recipe of a kind has."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal

from graphcl.interactions import Interactions


@dataclass(frozen=True)
class Training:
    """How a recipe trains; recipes inherit these fields and add their own."""

    dim: int = 64  # width of the embeddings
    learning_rate: float = 1e-3  # Adam's
    rate_decay: float = 1.0  # factor of the learning rate, every epoch
    lowest_rate: float = 0.0  # where it stops falling
    batch_size: int = 2048  # triples a step
    epochs: int = 100  # at most
    patience: int = 10  # evaluations without a better validation score before stopping; 0: never stop
    evaluate_every: int = 1  # epochs
    select: str = "ndcg@20"  # the metric that chooses the epoch
    balance: Literal["interactions", "users"] = "interactions"  # how training pairs are drawn


@dataclass(frozen=True)
class Pretraining:
    """How a recipe without labels trains on a heterogeneous graph, and how its embedding is probed."""

    dim: int = 64
    learning_rate: float = 1e-3  # Adam's
    weight_decay: float = 0.0  # Adam's
    batch_size: int = 0  # targets a step; 0: all, which is what the papers do
    epochs: int = 10_000  # at most
    patience: int = 30  # epochs (or evaluations, where validation chooses) without a better value before stopping; 0: never stop
    evaluate_every: int = 50  # epochs between checkpoints, and between evaluations where validation chooses
    select: Literal["loss", "ma_f1", "mi_f1", "last"] = (
        "loss"  # what chooses the epoch: training loss, probes on validation, or nothing
    )
    probe_learning_rate: float = 0.01  # of the logistic regressions on the finished embedding
    probe_weight_decay: float = 0.0


@dataclass(frozen=True)
class ClusterTraining:
    """How a recipe without labels trains on an attributed graph, and how it is evaluated. Labels choose nothing."""

    dim: int = 64
    learning_rate: float = 1e-3  # Adam's
    weight_decay: float = 0.0  # Adam's
    epochs: int = 200  # at most
    patience: int = 0  # epochs (or evaluations, with modularity) without a better value before stopping; 0: never stop
    evaluate_every: int = 10  # epochs between checkpoints, and between evaluations of modularity
    select: Literal["last", "loss", "modularity"] = (
        "last"  # the epoch: none, of the lowest training loss, of the most modular clusters
    )
    probe_learning_rate: float = 0.01  # of the logistic regressions on the finished embedding, where there are splits
    probe_weight_decay: float = 0.0


@dataclass(frozen=True)
class SequenceTraining:
    """How a recipe for item histories trains."""

    dim: int = 64
    learning_rate: float = 1e-3  # Adam's
    max_length: int = 50  # items of a history that are looked at, the last ones
    batch_size: int = 1024  # targets a step
    epochs: int = 200  # at most
    patience: int = 10  # evaluations without a better validation score before stopping; 0: never stop
    evaluate_every: int = 1  # epochs
    select: str = "ndcg@10"  # the metric that chooses the epoch
    seen: Literal["keep", "mask"] = "keep"  # whether validation ranks items that a user has had already


def sizes(data: Interactions) -> dict[str, int]:
    return {"user": data.num_users, "item": data.num_items}


def check_known(config: Any, **known: Collection[str]) -> None:
    """Raises ValueError for a setting that is none of those known."""
    for name, options in known.items():
        if getattr(config, name) not in options:
            raise ValueError(f"{name} must be one of {', '.join(options)}, got {getattr(config, name)!r}")


def check_counts(key: str, values: Collection[Any], least: int) -> None:
    """Raises ValueError unless a setting's values are whole numbers, at least one of them, each ``least`` or more."""
    if not values or not all(isinstance(value, Integral) and int(value) >= least for value in values):
        raise ValueError(f"setting {key!r} needs whole numbers of {least} or more, got {tuple(values)}")
