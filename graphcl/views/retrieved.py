"""SRA-CL's views: a history, and a mixture of the histories that are nearest to it in meaning."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graphcl.ops import unit_rows
from graphcl.sequence import SequenceBatch, Sequences
from graphcl.streams import borrowed
from graphcl.views.same_target import ending
from graphcl.views.two_sequences import Encode, Views

TILE_ENTRIES = 2**24  # similarities held at a time: 64 MiB of float32


class Retrieved(nn.Module):
    """A row's state, and the weighted mean of the states of its ``num_neighbours`` nearest histories, which are encoded with gradient.

    The pool is every user's training part, so nothing held out is seen; a row's own user is excluded by id. What histories mean is
    given by ``sequence_vectors``; without them it is the mean vector of the items in the row, or in the training part. Weights are
    the softmax of leaky_relu(a . [W q, W c]) over the candidates ("static": a row's q moves all of its candidates alike, but for the
    kink) or of (W q) . (W c) / sqrt(d) ("dot"); then dropout, without scaling the rest to a sum of one.

    A history that several rows retrieve is encoded once.

    Raises:
        ValueError: fewer than two users with a history, or a table with another number of rows.

    Source: Cui et al., "Semantic Retrieval Augmented Contrastive Learning for Sequential Recommendation", NeurIPS 2025;
    ziqiangcui/SRA-CL@301353d. Departs: there the pool is every prefix of the whole log, validation items and later prefixes of the same
    user included, and only the nearest is left out as "itself".
    """

    item_vectors: Tensor
    pool: Tensor
    directions: Tensor | None
    empty: Tensor
    nearest_users: Tensor | None

    def __init__(
        self,
        train: Sequences,
        item_vectors: Tensor,  # [I, f]
        *,
        sequence_vectors: Tensor | None = None,  # [U, f]
        num_neighbours: int = 10,
        max_length: int,
        dim: int = 64,  # d of W
        attention: Literal["static", "dot"] = "static",
        dropout: float = 0.5,
        rng: torch.Generator,
    ):
        super().__init__()
        empty = train.lengths == 0
        others = int((~empty).sum()) - 1
        if others < 1:
            raise ValueError("a history is retrieved from other users, and fewer than two have one")
        if len(item_vectors) != train.num_items:
            raise ValueError(f"{train.num_items} rows of item vectors are expected, one an item, got {len(item_vectors)}")
        if sequence_vectors is not None and len(sequence_vectors) != train.num_users:
            raise ValueError(f"{train.num_users} rows of sequence vectors are expected, one a user, got {len(sequence_vectors)}")
        if attention not in ("static", "dot"):
            raise ValueError(f"attention must be static or dot, got {attention!r}")
        if num_neighbours < 1 or not 0 <= dropout < 1:
            raise ValueError(f"num_neighbours must be 1 or more and dropout in [0, 1), got {num_neighbours} and {dropout}")
        self.max_length, self.attention, self.dropout = max_length, attention, dropout
        self.num_neighbours = min(num_neighbours, others)
        held: dict[str, Tensor | None] = {"item_vectors": item_vectors, "empty": empty, "directions": None, "nearest_users": None}
        if sequence_vectors is None:
            pool = _means(item_vectors, train)
            held["directions"] = unit_rows(pool)
        else:
            pool = sequence_vectors
            held["nearest_users"] = nearest(pool, self.num_neighbours, left_out=empty)
        held["pool"] = pool
        for name, value in held.items():  # made again from the data, so no checkpoint carries them
            self.register_buffer(name, value, persistent=False)
        self.project = nn.Parameter(torch.empty(dim, pool.shape[1]))  # W
        self.score = nn.Parameter(torch.empty(2, dim))  # a
        for parameter in (self.project, self.score.view(1, -1)):
            nn.init.xavier_uniform_(parameter.data, gain=1.414, generator=rng)

    def forward(self, encode: Encode, inputs: Sequences, batch: SequenceBatch, rng: torch.Generator) -> Views:
        meaning, chosen = self.retrieve(batch)
        users, place = chosen.unique(return_inverse=True)  # [n], [B, k]
        states = encode(*ending(inputs, users, inputs.pointers[users + 1], self.max_length))
        weights = self.weights(meaning, self.pool[users], place)
        if self.training and self.dropout:
            with borrowed(rng):
                weights = F.dropout(weights, self.dropout)
        mixed = torch.zeros(len(weights), len(users), dtype=weights.dtype, device=weights.device)
        return encode(batch.items, batch.lengths), mixed.scatter_add(1, place, weights) @ states

    def retrieve(self, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        """What each row means [B, f], and the users of its nearest histories [B, k]."""
        if self.nearest_users is not None:
            return self.pool[batch.users], self.nearest_users[batch.users]
        assert self.directions is not None
        real = batch.items < len(self.item_vectors)
        owner = real.nonzero()[:, 0]
        meaning = self.item_vectors.new_zeros(len(batch.items), self.item_vectors.shape[1])
        meaning.index_add_(0, owner, self.item_vectors[batch.items[real]])  # the mean's direction is the sum's
        meaning = meaning / real.sum(1, keepdim=True).clamp_min(1)
        return meaning, _nearest(meaning, self.directions, batch.users, self.num_neighbours, self.empty)

    def weights(self, meaning: Tensor, candidates: Tensor, place: Tensor) -> Tensor:  # [B, f], [n, f], [B, k] -> [B, k]
        query, key = meaning @ self.project.T, candidates @ self.project.T
        if self.attention == "dot":
            return (query[:, None] * key[place]).sum(2).div(math.sqrt(query.shape[1])).softmax(1)
        return F.leaky_relu((query @ self.score[0])[:, None] + (key @ self.score[1])[place], 0.2).softmax(1)


def nearest(vectors: Tensor, k: int, *, left_out: Tensor | None = None) -> Tensor:  # [n, f], bool [n] -> [n, k]
    """Of each row the k other rows of largest cosine, the largest first; itself is excluded by its number."""
    unit, rows = unit_rows(vectors), torch.arange(len(vectors), device=vectors.device)
    left_out = torch.zeros_like(rows, dtype=torch.bool) if left_out is None else left_out
    return _nearest(vectors, unit, rows, min(k, len(vectors) - 1), left_out)


def _nearest(
    query: Tensor, unit: Tensor, own: Tensor, k: int, left_out: Tensor
) -> Tensor:  # [b, f], [n, f], [b], bool [n] -> [b, k]
    step = max(1, TILE_ENTRIES // max(1, len(unit)))
    found = []
    for some, numbers in zip(query.split(step), own.split(step), strict=True):
        similar = (unit_rows(some) @ unit.T).scatter_(1, numbers[:, None], -torch.inf).masked_fill_(left_out, -torch.inf)
        found.append(similar.topk(k, 1).indices)
    return torch.cat(found)


def _means(vectors: Tensor, train: Sequences) -> Tensor:  # [I, f] -> [U, f]
    sums = vectors.new_zeros(train.num_users, vectors.shape[1]).index_add_(0, train.users, vectors[train.items])
    return sums / train.lengths.clamp_min(1)[:, None]
