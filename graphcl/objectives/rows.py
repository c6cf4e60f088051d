"""What objectives on one positive a query share: the positives' keys, how often rows count, and who is whom in a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from graphcl.contracts import Pair
from graphcl.objectives.log_sum_exp import Entries


def positive_keys(pair: Pair, name: str) -> Tensor:  # [n, d]
    """Raises ValueError, on behalf of the objective ``name``, for sparse positives."""
    if pair.positives.layout == torch.sparse_csr:
        raise ValueError(f"{name} needs one positive a query, got a sparse matrix of them")
    return pair.key.at(pair.positives)


def row_weights(pair: Pair) -> Tensor:  # [n]
    """``pair.weights`` in the query's dtype; ones where there are none."""
    return pair.query.new_ones(len(pair.query)) if pair.weights is None else pair.weights.to(pair.query.dtype)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:  # [n], [n] -> scalar
    """0 where nothing has a weight."""
    return (values * weights).sum() / weights.sum().clamp_min(torch.finfo(values.dtype).tiny)


def same_ids(ids: Tensor) -> Entries:
    """All (i, j) with ``ids[i] == ids[j]``, itself included, in order of i."""
    _, group, sizes = ids.unique(return_inverse=True, return_counts=True)
    members, starts = group.argsort(stable=True), sizes.cumsum(0) - sizes
    counts = sizes[group]
    rows = torch.repeat_interleave(torch.arange(len(ids), device=ids.device), counts)
    nth = torch.arange(len(rows), device=ids.device) - (counts.cumsum(0) - counts)[rows]
    return rows, members[starts[group[rows]] + nth]
