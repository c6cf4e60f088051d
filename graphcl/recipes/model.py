"""Encoder, task and contrasts put together, and the pass that views are handed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Literal, NamedTuple, get_args

import torch
from scipy import sparse
from torch import Tensor, nn

from graphcl.contracts import Batch, Encoder, Layers, Objective, Pair, Perturb, Readout, Terms, ViewGenerator
from graphcl.graph import Graph
from graphcl.ops import gather_rows
from graphcl.train import evaluating

Rows = Literal["positives", "positives-repeated", "all", "all-repeated"]
Anchors = dict[str, tuple[Tensor, Tensor | None]]  # kind -> rows of the graph (each once), how often each counts


class Triple(NamedTuple):
    """Rows of the triples of a batch."""

    users: Tensor  # [B, d]
    positives: Tensor  # [B, d]
    negatives: Tensor  # [B, d]


class _Side:
    """One side of a pair, for one kind. Anchors are gathered already; all rows only when an objective asks."""

    def __init__(self, layers: Layers, readout: Readout, near: Tensor, anchors: Tensor, rows: slice, full: Callable[[], Tensor]):
        self._layers, self._readout, self._near, self._anchors = layers, readout, near, anchors
        self._rows, self._full = rows, full

    def at(self, ids: Tensor) -> Tensor:
        if ids is self._anchors:
            return self._near
        return self._readout(self._layers.at(ids + self._rows.start))

    def all(self) -> Tensor:
        return self._full()

    def __len__(self) -> int:
        return self._rows.stop - self._rows.start


class Pass:
    """One training pass: the main encoding, run at most once, and its rows, gathered at most once."""

    def __init__(self, model: Model, inputs: Graph, batch: Batch, rng: torch.Generator):
        self._model, self.inputs, self._batch, self.rng = model, inputs, batch, rng
        self.rows: Mapping[str, Tensor] = {}
        self._anchors: Anchors = {}
        self._tables: dict[tuple[Layers, Readout], dict[str, Tensor]] = {}
        self._main: Layers | None = None
        self._reads_all = False  # the objective of the view that is being made

    @property
    def main(self) -> Layers:
        if self._main is None:
            model = self._model
            inputs = self.inputs if model.change is None or not model.training else model.change(self.inputs, self.rng)
            self._main = self.encode(inputs, perturb=model.perturb if model.training else None)
            if model.main_is_read_whole:  # now, or it is propagated twice
                self._main.whole()
        return self._main

    def encode(self, inputs: Graph, *, perturb: Perturb | None = None) -> Layers:
        return self._model.encoder(inputs, rng=self.rng, perturb=perturb)

    @cached_property
    def _union(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rows that the task reads, each once and sorted; the place of each triple's row among them; how often each is read."""
        b = self._batch
        return torch.cat([b.users, b.positives, b.negatives]).unique(return_inverse=True, return_counts=True)

    @cached_property
    def _near(self) -> Layers:
        return self.main.at(self._union[0])

    def triple(self, readout: Readout) -> Triple:
        return Triple(*gather_rows(readout(self._near), self._union[1]).split(len(self._batch.users)))

    def each_once(self, readout: Readout) -> tuple[Tensor, Tensor]:
        """The rows of the triples, each once [n, d], and how often each stands in them [n]."""
        return readout(self._near), self._union[2]

    def anchors(self, which: Rows, *, reads_all: bool = False) -> None:
        """Sets the rows that the next view is about, and whether its objective reads every key.

        "positives": the batch's users and positive items, each once; "all": negative items too. With "-repeated" they count as
        often as they stand in the batch, which is told by counts: a mean over repeats is a weighted mean over rows.
        """
        b = self._batch
        found = {"user": b.users, "item": torch.cat([b.positives, b.negatives]) if which.startswith("all") else b.positives}
        for kind, rows in found.items():
            rows, counts = rows.unique(return_counts=True)
            self._anchors[kind] = (rows, counts if which.endswith("-repeated") else None)
        self._reads_all = reads_all
        self.rows = {kind: rows for kind, (rows, _) in self._anchors.items()}

    def pairs(self, query: tuple[Layers, Readout], key: tuple[Layers, Readout]) -> tuple[Pair, ...]:
        if self._reads_all:
            key[0].whole()
        queries, keys = (self._gathered(*side) for side in (query, key))
        out = []
        for number, (kind, (rows, weights)) in enumerate(self._anchors.items()):
            span = self.inputs.kinds[kind]
            positives = rows - span.start
            side = _Side(*key, keys[number], positives, span, lambda kind=kind: self._all(*key)[kind])  # type: ignore[misc]
            out.append(Pair(queries[number], side, positives, kind, weights))
        return tuple(out)

    def _gathered(self, layers: Layers, readout: Readout) -> tuple[Tensor, ...]:
        rows = torch.cat([r for r, _ in self._anchors.values()])
        if layers is self._main:  # the task has gathered these rows already
            near = gather_rows(readout(self._near), torch.searchsorted(self._union[0], rows))
        else:
            near = readout(layers.at(rows))
        return near.split([len(r) for r, _ in self._anchors.values()])

    def _all(self, layers: Layers, readout: Readout) -> dict[str, Tensor]:
        """The whole table by kinds; one split, so that its backward is one concatenation."""
        name = (layers, readout)
        if name not in self._tables:
            kinds = sorted(self.inputs.kinds.items(), key=lambda item: item[1].start)
            parts = readout(layers).split([span.stop - span.start for _, span in kinds])
            self._tables[name] = {kind: part for (kind, _), part in zip(kinds, parts, strict=True)}
        return self._tables[name]


class Contrast(nn.Module):
    """A view, the objectives on it, and their weight in the loss (one for every kind, or by kind)."""

    def __init__(
        self,
        views: ViewGenerator,
        objective: Objective,
        weight: float | Mapping[str, float],
        *,
        rows: Rows = "positives",
        name: str = "contrast",
    ):
        super().__init__()
        if rows not in get_args(Rows):
            raise ValueError(f"rows must be one of {', '.join(get_args(Rows))}, got {rows!r}")
        for each in weight.values() if isinstance(weight, Mapping) else (weight,):
            if not each >= 0:
                raise ValueError(f"the weight of {name} must be 0 or more, got {each}")
        self.views, self.objective, self.weight, self.rows, self.name = views, objective, weight, rows, name
        negatives = getattr(objective, "negatives", None)
        self.negatives = negatives if isinstance(negatives, nn.Module) else None  # what it keeps is in every checkpoint
        self.reads_all: bool = getattr(objective, "reads_all", False)

    def forward(self, forward: Pass) -> Tensor:
        forward.anchors(self.rows, reads_all=self.reads_all)
        terms = []
        for pair in self.views(forward):
            weight = self.weight if isinstance(self.weight, (int, float)) else self.weight[pair.kind]
            terms.append(weight * self.objective(pair))
        return torch.stack(terms).sum() if terms else forward.main[0].new_zeros(())


Task = Callable[[Pass, "Model"], Terms]


class Model(nn.Module):
    """A trainable recipe. ``losses`` are its weighted terms for a batch, ``embed`` what leaves it."""

    def __init__(
        self,
        encoder: Encoder,
        readout: Readout,
        task: Task,
        contrasts: Sequence[Contrast] = (),
        *,
        perturb: Perturb | None = None,  # of the main pass's layers
        change: Callable[[Graph, torch.Generator], Graph] | None = None,  # of the main pass's input (dropout)
    ):
        super().__init__()
        self.encoder, self.readout, self.task = encoder, readout, task
        self.perturb, self.change = perturb, change
        self.contrasts = nn.ModuleList(contrasts)
        self.main_is_read_whole = any(c.reads_all and c.views.passes == 0 for c in contrasts)  # every row of it is a key
        first = getattr(readout, "first", 0)
        if first > (layers := getattr(encoder, "num_layers", first)):
            raise ValueError(f"layers from {first} on are read, but the encoder has num_layers {layers}")
        names = [c.name for c in contrasts]
        if len(set(names)) < len(names):
            raise ValueError(f"contrasts need different names, got {', '.join(names)}: a loss term is kept under each")

    def losses(self, inputs: Graph, batch: Batch, rng: torch.Generator) -> Terms:
        forward = Pass(self, inputs, batch, rng)
        terms = self.task(forward, self)
        for contrast in self.contrasts:
            assert isinstance(contrast, Contrast)
            terms[contrast.name] = contrast(forward)
        return terms

    @torch.no_grad()
    def layers(self, inputs: Graph) -> Layers:
        """Every layer without noise or dropout."""
        with evaluating(self):
            return self.encoder(inputs, rng=None, perturb=None).whole()

    @torch.no_grad()
    def embed(self, inputs: Graph) -> Tensor:  # [N, d]
        """The embeddings that scores, recommendations and exports use, computed anew from the parameters."""
        return self.readout(self.layers(inputs))

    @torch.no_grad()
    def fold(self, inputs: Graph, layers: Layers, histories: sparse.csr_matrix) -> Tensor:  # [b, I] -> [b, d]
        """Embeddings of people who are not in the graph, from their items alone; the parameters stay as they are."""
        return self.readout(self.encoder.fold_in(inputs, layers, histories))
