"""What objectives share: a temperature's range and, with one positive a query, its keys, how often rows count, who is whom in a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from graphcl.contracts import Pair
from graphcl.objectives.log_sum_exp import Entries
from graphcl.ops import segment_numbers


def check_temperature(value: float | None, name: str = "temperature") -> None:
    """Raises ValueError for one that is not above 0, and for a tensor, to which no whole gradient would flow; None passes."""
    if isinstance(value, Tensor):
        raise ValueError(f"{name} must be a number, not a tensor: it can't be learned here")
    if value is not None and not value > 0:
        raise ValueError(f"{name} must be above 0, got {value}")


def check_single(pair: Pair, name: str) -> None:
    """Raises ValueError, on behalf of the objective ``name``, for sparse positives."""
    if pair.positives.layout == torch.sparse_csr:
        raise ValueError(f"{name} needs one positive a query, got a sparse matrix of them")


def entries(of: Tensor) -> Entries:
    """Rows and columns of a sparse CSR, or of positives that are one a query."""
    if of.layout == torch.sparse_csr:
        return segment_numbers(of.crow_indices()), of.col_indices()
    return torch.arange(len(of), device=of.device), of


def listed_keys(pair: Pair, columns: Tensor, reads_all: bool) -> tuple[Tensor, Tensor]:
    """Keys [k, d] among which those of a pattern's ``columns`` [E] are, and their places [E]; all where all are at hand anyway."""
    if reads_all:
        return pair.key.all(), columns
    ids, place = columns.unique(return_inverse=True)
    return pair.key.at(ids), place


def positive_keys(pair: Pair, name: str) -> Tensor:  # [n, d]
    """Raises ValueError as :func:`check_single`."""
    check_single(pair, name)
    return pair.key.at(pair.positives)


def row_weights(pair: Pair) -> Tensor:  # [n]
    """``pair.weights`` in the query's dtype; ones where there are none."""
    return pair.query.new_ones(len(pair.query)) if pair.weights is None else pair.weights.to(pair.query.dtype)


def row_shares(pair: Pair) -> Tensor:  # [n]
    """Row weights that sum to 1, or to 0 where nothing has a weight."""
    weights = row_weights(pair)
    return (weights / _total(weights)).to(weights.dtype)


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:  # [n], [n] -> scalar
    """0 where nothing has a weight."""
    wide = _wide(values)
    return ((wide * weights).sum() / _total(weights)).to(values.dtype)


def check_positive_weights(weights: Tensor) -> None:
    """Raises ValueError for a negative weight of a positive; on CPU alone, for elsewhere it would wait for the device."""
    if weights.device.type == "cpu" and bool((weights < 0).any()):
        raise ValueError(f"weights of positives must be 0 or more, got {weights.min().item():g}")


def _wide(x: Tensor) -> Tensor:
    """In float32 at least: half precision ends at 65,504, which a sum over rows soon exceeds."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _total(weights: Tensor) -> Tensor:
    total = _wide(weights).sum()
    return total.clamp_min(torch.finfo(total.dtype).tiny)


def same_ids(ids: Tensor) -> Entries:
    """All (i, j) with ``ids[i] == ids[j]``, itself included, in order of i."""
    return places_of(torch.arange(len(ids), device=ids.device), ids, ids)


def places_of(rows: Tensor, cols: Tensor, columns: Tensor) -> Entries:
    """The pairs (rows[e], p) for each entry e and each place p with ``columns[p] == cols[e]``; sorted by e."""
    order = columns.argsort(stable=True)
    ranked = columns[order]
    lowest = torch.searchsorted(ranked, cols)
    counts = torch.searchsorted(ranked, cols, right=True) - lowest
    entry = torch.repeat_interleave(torch.arange(len(cols), device=cols.device), counts)
    nth = torch.arange(len(entry), device=cols.device) - (counts.cumsum(0) - counts)[entry]
    return rows[entry], order[lowest[entry] + nth]
