"""InfoNCE, with every choice that differs between releases as an argument."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from graphcl.contracts import Negatives, Pair
from graphcl.objectives.negatives import InBatch
from graphcl.ops import gather_rows, unit_rows


@dataclass(frozen=True)
class InfoNCE:
    """``lse(negatives and positive) - s(q, k+) / t`` for each anchor.

    ``similarity``: "cosine" or "dot". ``negatives``: whose keys are compared with. ``positive_in_denominator``: False is the
    decoupled form. ``clamp``: bounds the positive's ``s / t`` (LightGCL: 5), which also stops its gradient beyond. ``reduction``:
    "mean" or "sum" over anchors, weighted by ``pair.weights`` where given. With several positives an anchor's term is the
    weighted mean of logs ("each") or the log of the weighted sum ("any"); anchors without positives do not count.

    Raises:
        ValueError: a setting outside its range.

    Source: van den Oord et al., 2018; positives "each" and "any": SupCon's "out" form, HeCo's sum.
    Relations: SimGCL, XSimGCL: cosine, in batch. SGL: cosine, all keys. LightGCL: dot, all keys, clamp 5.
    """

    temperature: float
    similarity: Literal["cosine", "dot"] = "cosine"
    negatives: Negatives = field(default_factory=InBatch)
    positive_in_denominator: bool = True
    clamp: float | None = None
    reduction: Literal["mean", "sum"] = "mean"
    several: Literal["each", "any"] = "each"

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {self.temperature}")
        for name, allowed in (("similarity", ("cosine", "dot")), ("reduction", ("mean", "sum")), ("several", ("each", "any"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")

    def __call__(self, pair: Pair, *, key_weights: Tensor | None = None, exclude: Tensor | None = None) -> Tensor:
        cosine = self.similarity == "cosine"
        query = unit_rows(pair.query) if cosine else pair.query
        if not self.positive_in_denominator:
            exclude = _union(exclude, pair.positives, len(pair.key))
        lse = self.negatives(
            query, pair.key, pair.positives,
            temperature=self.temperature, key_weights=key_weights, exclude=exclude, normalise=cosine,
        )  # fmt: skip
        if pair.positives.layout == torch.sparse_csr:
            losses, known = self._several(query, pair, lse, cosine)
        else:
            keys = pair.key.at(pair.positives)
            similar = (query * (unit_rows(keys) if cosine else keys)).sum(1) / self.temperature
            losses, known = lse - self._clamped(similar), None
        weights = pair.weights if known is None else (known.to(losses.dtype) if pair.weights is None else known * pair.weights)
        if weights is None:
            return losses.sum() if self.reduction == "sum" else losses.mean()
        total = (losses * weights).sum()
        return total if self.reduction == "sum" else total / weights.sum().clamp_min(torch.finfo(losses.dtype).tiny)

    def _clamped(self, similar: Tensor) -> Tensor:
        return similar if self.clamp is None else similar.clamp(-self.clamp, self.clamp)

    def _several(self, query: Tensor, pair: Pair, lse: Tensor, cosine: bool) -> tuple[Tensor, Tensor]:
        """Loss per anchor and which anchors have a positive, for CSR positives."""
        counts = pair.positives.crow_indices().diff()
        rows = torch.repeat_interleave(torch.arange(len(query), device=query.device), counts)
        columns, place = pair.positives.col_indices().unique(return_inverse=True)
        keys = pair.key.at(columns)
        keys = unit_rows(keys) if cosine else keys
        similar = self._clamped((gather_rows(query, rows) * gather_rows(keys, place)).sum(1) / self.temperature)
        known = counts > 0
        weight = pair.positives.values().to(similar.dtype)
        total = query.new_zeros(len(query)).index_add(0, rows, weight)
        total = torch.where(known, total, 1.0)
        if self.several == "each":
            positive = query.new_zeros(len(query)).index_add(0, rows, weight * similar) / total
        else:
            top = query.new_full((len(query),), -torch.inf).index_reduce(0, rows, similar.detach(), "amax")
            top = torch.where(known, top, 0.0)
            share = query.new_zeros(len(query)).index_add(0, rows, weight * (similar - top[rows]).exp())
            positive = top + torch.where(known, share, 1.0).log()
        return torch.where(known, lse - positive, 0.0), known


def _union(exclude: Tensor | None, positives: Tensor, num_keys: int) -> Tensor:
    """Sparse CSR [n, m] of the pairs in either."""
    if positives.layout == torch.sparse_csr:
        rows = torch.repeat_interleave(torch.arange(len(positives), device=positives.device), positives.crow_indices().diff())
        cols = positives.col_indices()
    else:
        rows, cols = torch.arange(len(positives), device=positives.device), positives
    if exclude is not None:
        more = torch.repeat_interleave(torch.arange(exclude.shape[0], device=rows.device), exclude.crow_indices().diff())
        rows, cols = torch.cat([rows, more]), torch.cat([cols, exclude.col_indices()])
    flat = (rows * num_keys + cols).unique()
    counts = torch.bincount(flat // num_keys, minlength=len(positives))
    pointers = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return torch.sparse_csr_tensor(pointers, flat % num_keys, torch.ones(len(flat)), size=(len(positives), num_keys))
