"""InfoNCE, with every choice that differs between releases as an argument."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from graphcl.contracts import Negatives, Pair
from graphcl.objectives.negatives import InBatch
from graphcl.objectives.rows import check_positive_weights, check_temperature, entries, listed_keys, weighted_mean
from graphcl.ops import csr_of, pair_scores, row_pointers, segment_log_sum_exp, segment_sum, unit_rows


@dataclass(frozen=True)
class InfoNCE:
    """``lse(negatives and positive) - s(q, k+) / t`` for each anchor.

    ``similarity``: "cosine" or "dot". ``negatives``: whose keys are compared with. ``positive_in_denominator``: False is the
    decoupled form. ``clamp``: bounds the positive's ``s / t`` (LightGCL: 5), which also stops its gradient beyond. ``reduction``:
    "mean" or "sum" over anchors, weighted by ``pair.weights`` where given. With several positives an anchor's term is the
    weighted mean of logs ("each") or the log of the weighted sum ("any"). Anchors without positives, or without a key to be
    compared with, do not count.

    At the call, ``key_weights`` [m] multiply ``exp(s / t)`` in the denominator and are constants; ``exclude``, sparse CSR [n, m],
    names the pairs that are left out of it.

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
        check_temperature(self.temperature)
        if self.clamp is not None and not self.clamp > 0:
            raise ValueError(f"clamp must be above 0, or None, got {self.clamp}")
        for name, allowed in (("similarity", ("cosine", "dot")), ("reduction", ("mean", "sum")), ("several", ("each", "any"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {getattr(self, name)!r}")

    @property
    def reads_all(self) -> bool:
        return self.negatives.reads_all

    def __call__(self, pair: Pair, *, key_weights: Tensor | None = None, exclude: Tensor | None = None) -> Tensor:
        cosine = self.similarity == "cosine"
        query = unit_rows(pair.query) if cosine else pair.query
        for name, given, wanted in (
            ("key_weights", key_weights, (len(pair.key),)), ("exclude", exclude, (len(query), len(pair.key))),
        ):  # fmt: skip
            if given is not None and given.shape != wanted:
                raise ValueError(f"{name} must be of shape {wanted}, got {tuple(given.shape)}")
        if not self.positive_in_denominator:
            exclude = _union(exclude, pair.positives, len(pair.key))
        lse = self.negatives(
            query, pair.key, pair.positives,
            temperature=self.temperature, key_weights=key_weights, exclude=exclude, normalise=cosine,
            weights=query.new_ones(len(query)) if pair.weights is None else pair.weights,
            kind=pair.kind,
        )  # fmt: skip
        counted = lse != -torch.inf  # there is a key to compare with; NaN stays, to be seen
        if pair.positives.layout == torch.sparse_csr:
            positive, known = self._several(query, pair, cosine)
            counted = counted & known
        else:
            keys = pair.key.at(pair.positives)
            positive = self._clamped((query * (unit_rows(keys) if cosine else keys)).sum(1) / self.temperature)
        losses = torch.where(counted, lse - positive, 0.0)
        weights = counted.to(losses.dtype) if pair.weights is None else counted * pair.weights.to(losses.dtype)
        return (losses * weights).sum() if self.reduction == "sum" else weighted_mean(losses, weights)

    def _clamped(self, similar: Tensor) -> Tensor:
        return similar if self.clamp is None else similar.clamp(-self.clamp, self.clamp)

    def _several(self, query: Tensor, pair: Pair, cosine: bool) -> tuple[Tensor, Tensor]:
        """For CSR positives: what stands for the positive's ``s / t``, and which anchors have one, both [n]."""
        pointers = pair.positives.crow_indices()
        keys, place = listed_keys(pair, pair.positives.col_indices(), self.reads_all)
        keys = unit_rows(keys) if cosine else keys
        similar = self._clamped(pair_scores(query, keys, pointers, place) / self.temperature)
        weight = pair.positives.values().to(similar.dtype)
        check_positive_weights(weight)
        total = segment_sum(weight, pointers)
        known = total > 0
        if self.several == "each":
            return segment_sum(weight * similar, pointers) / torch.where(known, total, 1.0), known
        return torch.where(known, segment_log_sum_exp(similar + weight.log(), pointers), 0.0), known


def _union(exclude: Tensor | None, positives: Tensor, num_keys: int) -> Tensor:
    """Sparse CSR [n, m] of the pairs in either."""
    rows, cols = entries(positives)
    if exclude is not None:
        rows, cols = (torch.cat(both) for both in zip((rows, cols), entries(exclude), strict=True))
    flat = (rows * num_keys + cols).unique()
    pointers = row_pointers(flat // num_keys, len(positives))
    return csr_of(pointers, flat % num_keys, torch.ones(len(flat), device=flat.device), (len(positives), num_keys))
