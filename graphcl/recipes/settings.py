"""Settings that every trained graph recommender has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from graphcl.interactions import Interactions


@dataclass(frozen=True)
class Training:
    """How a recipe trains; recipes inherit these fields and add their own."""

    dim: int = 64  # width of the embeddings
    learning_rate: float = 1e-3  # Adam's
    batch_size: int = 2048  # triples a step
    epochs: int = 100  # at most
    patience: int = 10  # evaluations without a better validation score before stopping; 0: never stop
    evaluate_every: int = 1  # epochs
    select: str = "ndcg@20"  # the metric that chooses the epoch
    balance: Literal["interactions", "users"] = "interactions"  # how training pairs are drawn


def sizes(data: Interactions) -> dict[str, int]:
    return {"user": data.num_users, "item": data.num_items}
