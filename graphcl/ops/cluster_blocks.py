"""Log-sum-exp of anchors over the keys of chosen clusters, few anchors a cluster, on CPU: keys are read once where they lie.

    lse_p = log sum_j exp(<q_p, k_j> / t + bias_j)      over the keys j of pair p's cluster that are not banned for it

With few anchors a cluster the products are too small for a matrix product to pay for gathering the cluster's keys, their lengths and
the way back through these. A cluster is one thread's; anchors that stand in several clusters have a row of their own in each.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import torch
from torch import Tensor

from graphcl.ops.dense import add_rows

_FAST = {"contract", "nsz", "reassoc", "arcp"}
_FLOOR = 1e-12  # of a key's length: a shorter one has no direction


class ClusterBlocks(NamedTuple):
    """Which anchors meet which keys. A cluster's pairs and its keys stand together."""

    rows: Tensor  # [P] anchors, by cluster
    spans: Tensor  # [C + 1] pairs of each cluster
    members: Tensor  # [m] keys by cluster
    limits: Tensor  # [C, 2] each cluster's keys, from and to in ``members``
    bias: Tensor | None  # [m] of the keys
    banned: tuple[Tensor, Tensor] | None  # pairs, rising, and where in ``members`` their keys stand

    def log_sum_exp(self, query: Tensor, keys: Tensor, temperature: float, normalise: bool) -> Tensor:  # [n, d], [m, d] -> [P]
        out = query.new_empty(len(self.rows))
        _forward(*self._arrays(query, keys, temperature, normalise), out.numpy())  # type: ignore[call-arg]
        return out

    def add_gradients(
        self, query: Tensor, keys: Tensor, temperature: float, normalise: bool, lse: Tensor, grad: Tensor, near: Tensor, far: Tensor
    ) -> None:  # fmt: skip
        """To ``near`` [n, d] and ``far`` [m, d], of the keys as they are, ``grad`` [P] flowing to ``lse``."""
        each = query.new_zeros(len(self.rows), query.shape[1])
        weights = (grad / temperature).contiguous().numpy()
        _backward(*self._arrays(query, keys, temperature, normalise), lse.numpy(), weights, each.numpy(), far.numpy())  # type: ignore[call-arg]
        add_rows(near, self.rows, each)

    def _arrays(self, query, keys, temperature, normalise):  # type: ignore[no-untyped-def]
        bias = query.new_zeros(0) if self.bias is None else self.bias.to(query.dtype)
        pairs, places = self.banned if self.banned is not None else (self.rows[:0], self.rows[:0])
        cuts = torch.searchsorted(pairs, self.spans)
        tensors = (
            query.detach().contiguous(), keys.detach().contiguous(), self.rows, self.spans, self.members, self.limits, bias, pairs,
            places, cuts,
        )  # fmt: skip
        return *(t.numpy() for t in tensors), query.numpy(force=True).dtype.type(1 / temperature), normalise


@numba.njit(inline="always", cache=True)
def _unit(row, normalise, unit):  # type: ignore[no-untyped-def]
    """The row, or its direction; and one over its length, 0 where it is shorter than the floor."""
    factor = row.dtype.type(1)
    if normalise:
        square = row.dtype.type(0)
        for c in range(len(row)):
            square += row[c] * row[c]
        length = np.sqrt(square)
        factor = row.dtype.type(0) if length < _FLOOR else row.dtype.type(1) / length
    for c in range(len(row)):
        unit[c] = row[c] * factor
    return factor


@numba.njit(inline="always", cache=True)
def _logit(q, unit, sharp, bias, key):  # type: ignore[no-untyped-def]
    found = q.dtype.type(0)
    for c in range(len(unit)):
        found += q[c] * unit[c]
    found *= sharp
    if len(bias):
        found += bias[key]
    return found


@numba.njit(inline="always", cache=True)
def _mask(pairs, places, cuts, block, first, start, shape):  # type: ignore[no-untyped-def]
    """Of a cluster's pairs and keys, which are banned; empty where none is."""
    found = cuts[block + 1] - cuts[block]
    out = np.zeros(shape if found else (0, 0), np.bool_)
    for place in range(cuts[block], cuts[block + 1]):
        out[pairs[place] - first, places[place] - start] = True
    return out


@numba.njit(parallel=True, fastmath=_FAST, cache=True, boundscheck=False)
def _forward(query, keys, rows, spans, members, limits, bias, pairs, places, cuts, sharp, normalise, out):  # type: ignore[no-untyped-def]
    for block in numba.prange(len(spans) - 1):
        first, count = spans[block], spans[block + 1] - spans[block]
        start, size = limits[block, 0], limits[block, 1] - limits[block, 0]
        mask = _mask(pairs, places, cuts, block, first, start, (count, size))
        top = np.full(count, query.dtype.type(-np.inf))
        total = np.zeros(count, query.dtype)
        unit = np.empty(query.shape[1], query.dtype)
        for j in range(size):
            key = members[start + j]
            _unit(keys[key], normalise, unit)
            for p in range(count):
                if len(mask) and mask[p, j]:
                    continue
                logit = _logit(query[rows[first + p]], unit, sharp, bias, key)
                if logit > top[p]:
                    total[p] = total[p] * np.exp(top[p] - logit) + query.dtype.type(1)
                    top[p] = logit
                elif logit != -np.inf:  # NaN too, to be seen
                    total[p] += np.exp(logit - top[p])
        for p in range(count):
            out[first + p] = top[p] + np.log(total[p]) if total[p] != 0 else -np.inf


@numba.njit(parallel=True, fastmath=_FAST, cache=True, boundscheck=False)
def _backward(  # type: ignore[no-untyped-def]
    query, keys, rows, spans, members, limits, bias, pairs, places, cuts, sharp, normalise, lse, weights, near, far
):  # fmt: skip
    for block in numba.prange(len(spans) - 1):
        first, count = spans[block], spans[block + 1] - spans[block]
        start, size = limits[block, 0], limits[block, 1] - limits[block, 0]
        mask = _mask(pairs, places, cuts, block, first, start, (count, size))
        unit, back = np.empty(query.shape[1], query.dtype), np.empty(query.shape[1], query.dtype)
        for j in range(size):
            key = members[start + j]
            factor = _unit(keys[key], normalise, unit)
            for c in range(len(unit)):
                back[c] = 0
            for p in range(count):
                if lse[first + p] == -np.inf or (len(mask) and mask[p, j]):
                    continue
                q = query[rows[first + p]]
                logit = _logit(q, unit, sharp, bias, key)
                share = np.exp(logit - lse[first + p]) * weights[first + p]
                given = near[first + p]
                for c in range(len(unit)):
                    back[c] += share * q[c]
                for c in range(len(unit)):
                    given[c] += share * unit[c]
            along = query.dtype.type(0)
            if normalise:
                for c in range(len(unit)):
                    along += back[c] * unit[c]
            moved = far[key]
            for c in range(len(unit)):
                moved[c] += factor * (back[c] - along * unit[c])
