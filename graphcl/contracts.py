"""The types that views, objectives, encoders and recipes agree on.

Shape legend, used everywhere: N nodes, U users, I items, E edges, B batch, T time, d width, L layers,
K clusters, P meta-paths, n queries, m keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from scipy import sparse
from torch import Tensor, nn

from graphcl.graph import Graph
from graphcl.ops import Operator, gather_rows


class _Lazy(Sequence[Tensor]):
    """Layers of which each is made when it is first looked at, and once only."""

    def __init__(self, count: int, make: Callable[[int], Tensor]):
        self._count, self._make = count, make
        self._made: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(self._count)))
        index = range(self._count)[index]
        if index not in self._made:
            self._made[index] = self._make(index)
        return self._made[index]


class _Growing(_Lazy):
    """Each layer is the next hop of the one before."""

    def __init__(self, first: Tensor, hops: Sequence[Callable[[Tensor], Tensor]]):
        # No function that knows this object: in a cycle its tables would outlive the step until Python looks for cycles.
        self._count, self._hops, self._made = len(hops) + 1, hops, {0: first}

    def _make(self, index: int) -> Tensor:  # type: ignore[override]
        return self._hops[index - 1](self[index - 1])

    @property
    def complete(self) -> bool:
        return self._count - 1 in self._made


@dataclass(frozen=True, eq=False)
class Layers:
    """What an encoder returns: every layer's output, the input first.

    An encoder may know how to make some rows of every layer for less than all of them: that is ``near``, and whole layers are then
    made only where they are asked for. What reads both should ask for whole layers first, or they are propagated twice.
    """

    each: Sequence[Tensor]  # L + 1 tensors [N, d]
    near: Callable[[Sequence[Tensor], Tensor], tuple[Tensor, ...]] | None = None  # each, rows [n] -> every layer's [n, d]

    @classmethod
    def growing(
        cls,
        first: Tensor,
        hops: Sequence[Callable[[Tensor], Tensor]],
        near: Callable[[Sequence[Tensor], Tensor], tuple[Tensor, ...]],
    ) -> Layers:
        """Each layer is the next hop of the one before, made when it is looked at."""
        return cls(_Growing(first, hops), near)

    def __getitem__(self, layer: int) -> Tensor:
        return self.each[layer]

    def __len__(self) -> int:
        return len(self.each)

    def whole(self) -> Layers:
        """Makes every layer whole; what is asked of some rows from then on is gathered."""
        self.each[:]
        return self

    def at(self, rows: Tensor) -> Layers:
        """The same layers with some rows only [n, d]; a layer that nobody reads costs nothing."""
        each, near = self.each, self.near
        if near is None or (isinstance(each, _Growing) and each.complete):
            return Layers(_Lazy(len(self), lambda layer: gather_rows(each[layer], rows)))
        made: list[tuple[Tensor, ...]] = []  # at once, but not before one is looked at

        def some(layer: int) -> Tensor:
            if not made:
                made.append(near(each, rows))
            return made[0][layer]

        return Layers(_Lazy(len(self), some))


class Readout(Protocol):
    """Layers -> one vector a row; works row by row, so it may be applied before or after rows are chosen."""

    def __call__(self, layers: Layers) -> Tensor: ...  # [n, d]


class Keys(Protocol):
    """One side of a pair, read lazily: some rows, or all rows of the kind."""

    def at(self, ids: Tensor) -> Tensor: ...  # [n, d]

    def all(self) -> Tensor: ...  # [m, d]

    def __len__(self) -> int: ...


@dataclass(frozen=True, eq=False)
class Table:
    """A whole table as the key side of a pair."""

    rows: Tensor  # [m, d]

    def at(self, ids: Tensor) -> Tensor:
        check_known(ids)
        return self.rows[ids]

    def all(self) -> Tensor:
        return self.rows

    def __len__(self) -> int:
        return len(self.rows)


def check_known(ids: Tensor) -> None:
    """Raises IndexError, on the CPU alone (elsewhere it would wait for the device), for the row of an id that is not known."""
    if ids.device.type == "cpu" and len(ids) and int(ids.min()) < 0:
        raise IndexError(f"keys are numbered from 0, got {int(ids.min())}, which is an unknown id")


@dataclass(frozen=True)
class Pair:
    """Two sides, row by row, and which keys are positives of which queries.

    Raises:
        ValueError: positives or weights that are not one for each query, or a sparse matrix of another shape.
    """

    query: Tensor  # [n, d]
    key: Keys  # m rows
    positives: Tensor  # [n] rows of key, or a sparse CSR [n, m] with weights
    kind: str = "node"
    weights: Tensor | None = None  # [n] any dtype, how often each query counts in the mean or sum; None: once

    def __post_init__(self) -> None:
        count = len(self.query)
        wanted = (count, len(self.key)) if self.positives.layout == torch.sparse_csr else (count,)
        if self.positives.shape != wanted:
            raise ValueError(f"positives must be of shape {wanted}, got {tuple(self.positives.shape)}")
        if self.weights is not None and self.weights.shape != (count,):
            raise ValueError(f"weights must be of shape {(count,)}, got {tuple(self.weights.shape)}")


@dataclass(frozen=True)
class Batch:
    """BPR triples as row numbers of the graph: items already stand after the users."""

    users: Tensor  # [B] int64
    positives: Tensor  # [B] int64
    negatives: Tensor  # [B] int64

    def to(self, device: torch.device | str) -> Batch:
        return Batch(self.users.to(device), self.positives.to(device), self.negatives.to(device))


@dataclass(frozen=True)
class Targets:
    """Nodes that a step is about; None: all of them."""

    rows: Tensor | None = None  # [B] int64

    def to(self, device: torch.device | str) -> Targets:
        return self if self.rows is None else Targets(self.rows.to(device))


class Perturb(Protocol):
    """Changes a layer's output; per-row draws come from one key, so they can be fused and repeated.

    One that has ``constant = True`` only adds what is constant for the gradient; several layers are then differentiated at once.
    """

    def __call__(self, h: Tensor, rng: torch.Generator) -> Tensor: ...

    def after(self, op: Operator, x: Tensor, rng: torch.Generator, rows: Tensor | None = None) -> Tensor:
        """``self(op @ x, rng)``, or the rows of it that ``op`` (an ``op.rows(rows)``) makes."""
        ...


class Encoder(Protocol):
    def __call__(self, inputs: Graph, *, rng: torch.Generator | None, perturb: Perturb | None = None) -> Layers: ...

    def fold_in(self, inputs: Graph, layers: Layers, histories: sparse.csr_matrix) -> Layers:
        """Layers [b, d] of new users by their histories [b, I], given every node's layers."""
        ...


class Forward(Protocol):
    """What a view generator is handed. ``main`` is the task's own pass: lazy, run at most once."""

    inputs: Graph
    rows: Mapping[str, Tensor]  # kind -> anchor rows of the graph, each once
    rng: torch.Generator

    @property
    def main(self) -> Layers: ...

    def encode(self, inputs: Graph, *, perturb: Perturb | None = None) -> Layers: ...

    def pairs(self, query: tuple[Layers, Readout], key: tuple[Layers, Readout]) -> tuple[Pair, ...]: ...


class ViewGenerator(Protocol):
    passes: int  # encoder passes besides the main one, stated so that cost is visible

    def __call__(self, forward: Forward) -> tuple[Pair, ...]: ...  # none: it has no part in this step


class Part(nn.Module):
    """A view, an objective or negatives with state. What must outlive an epoch is buffers, so that it is in every checkpoint."""

    def start_epoch(self, inputs: Graph, epoch: int, rng: torch.Generator) -> None:
        """Before the first step of an epoch."""

    def after_step(self, inputs: Graph, step: int, rng: torch.Generator) -> None:
        """After the optimiser has moved."""


class Negatives(Protocol):
    """Which keys stand in the denominator. Returns log-sum-exp per anchor, positives included [n]."""

    reads_all: bool  # every key, not only anchors' positives

    def __call__(
        self,
        query: Tensor,  # [n, d]
        key: Keys,
        positives: Tensor,
        *,
        temperature: float,
        key_weights: Tensor | None = None,  # [m] multiplies exp(similarity)
        exclude: Tensor | None = None,  # sparse CSR [n, m]: pairs left out
        normalise: bool = False,
        weights: Tensor | None = None,  # [n] in proportion to the gradient that will flow back, which saves work; a hint
        kind: str = "node",  # the pair's: a strategy may keep something for each
    ) -> Tensor: ...


class Objective(Protocol):
    """One that reads every key of a pair says so by ``reads_all = True``, and whole layers are then propagated once for all."""

    def __call__(self, pair: Pair) -> Tensor: ...  # scalar


class Scorer(Protocol):
    """Scores every item for users in the log, or for histories of people who are not in it."""

    num_items: int

    def score(self, users: Tensor | sparse.csr_matrix) -> Tensor: ...  # [b, I]


Terms = dict[str, Tensor]  # name -> scalar, already weighted: the loss is their sum


class Step(Protocol):
    """One optimisation step. Owns its optimisers.

    It may have ``start_epoch(number)``, called before the first batch of epoch 1, 2, ...: a learning rate that depends on
    the epoch's number alone needs no state to be resumed.
    """

    def __call__(self, model: nn.Module, inputs: Graph, batch: Batch, rng: torch.Generator) -> Terms: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


Batches = Callable[[torch.Generator], Iterator[Any]]  # one epoch's batches
