"""How the embeddings of a run lie: alignment, uniformity, tolerance and effective rank. They are told, and choose nothing.

Alignment, uniformity and tolerance are of rows at unit length, and a row of length zero stays where it is; the effective rank is
of the table as it is.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphcl.objectives.align_uniform import uniformity
from graphcl.ops import unit_rows

SAMPLE = 5000  # rows at most whose uniformity is taken, for it is of all pairs of rows
_BLOCK = 2**16  # rows of which copies are made at a time


@torch.no_grad()
def of_pairs(
    users: Tensor,  # [U, d]
    items: Tensor,  # [I, d]
    log: sparse.csr_matrix,  # [U, I] pattern of ones
) -> dict[str, float]:
    """``alignment`` over the log's pairs, ``uniformity_user``, ``uniformity_item`` (on a sample of at most 5,000 rows, the same at each
    call) and the ``effective_rank`` of both tables together. What is not defined is left out."""
    users, items = users.cpu(), items.cpu()
    found = {"effective_rank": effective_rank(users, items)}
    if log.nnz:
        found["alignment"] = _alignment(users, items, log)
    return found | {f"uniformity_{kind}": _even(x) for kind, x in (("user", users), ("item", items)) if len(x) > 1}


@torch.no_grad()
def of_nodes(
    nodes: Tensor,  # [N, d]
    labels: Tensor,  # [N] int64, -1 = unlabelled
) -> dict[str, float]:
    """``uniformity`` (on such a sample), ``effective_rank``, and ``tolerance`` over labelled nodes, if any two share a class."""
    found = {"effective_rank": effective_rank(nodes), "tolerance": tolerance(nodes, labels)}
    found |= {"uniformity": _even(nodes)} if len(nodes) > 1 else {}
    return {key: value for key, value in found.items() if value == value}


@torch.no_grad()
def of_items(
    items: Tensor,  # [I, d]
) -> dict[str, float]:
    """``uniformity_item`` (on such a sample) and ``effective_rank``, of a model whose users are what they had."""
    return {"effective_rank": effective_rank(items)} | ({"uniformity_item": _even(items)} if len(items) > 1 else {})


def tolerance(
    x: Tensor,  # [N, d]
    labels: Tensor,  # [N] int64, negative = not counted
) -> float:
    """Mean inner product of two different rows of one class, at unit length; NaN where no two share a class. O(N d), by sums of classes.

    Source: Wang and Liu, CVPR 2021.
    """
    labels = labels.to(x.device)
    known = labels >= 0
    rows = unit_rows(x[known].double())
    classes, own, sizes = labels[known].unique(return_inverse=True, return_counts=True)
    sums = rows.new_zeros((len(classes), x.shape[1])).index_add_(0, own, rows)
    return float((sums.square().sum() - rows.square().sum()) / (sizes * (sizes - 1)).sum())  # 0 / 0 is NaN


def effective_rank(*tables: Tensor) -> float:  # each [N, d]
    """``exp`` of the entropy of the singular values' shares, between 1 and d, all rows together; 0 if they are zeros. Columns are
    not centred. By the eigenvalues of a [d, d] matrix in float64.

    Source: Roy and Vetterli, EUSIPCO 2007.
    """
    blocks = (rows.double() for table in tables for rows in table.split(_BLOCK))
    squares = torch.linalg.eigvalsh(sum(rows.T @ rows for rows in blocks))
    squares[squares < squares[-1] * len(squares) * torch.finfo(squares.dtype).eps] = 0  # what rounding leaves of 0
    values = squares.sqrt()
    total = values.sum()
    return float(torch.special.entr(values / total).sum().exp()) if total > 0 else 0.0


def _alignment(users: Tensor, items: Tensor, log: sparse.csr_matrix) -> float:
    """``mean |u - i|^2 = mean |u|^2 + |i|^2 - 2 <u, i>``, without a gathered table of pairs."""
    items = unit_rows(items)
    total = float(np.bincount(log.indices, minlength=len(items)) @ items.square().sum(1).numpy())
    for start in range(0, len(users), _BLOCK):
        rows, own = unit_rows(users[start : start + _BLOCK]), log[start : start + _BLOCK]
        total += float(np.diff(own.indptr) @ rows.square().sum(1).numpy())
        total -= 2 * float((rows * torch.from_numpy(own @ items.numpy())).sum(dtype=torch.float64))
    return total / log.nnz


def _even(x: Tensor) -> float:
    if len(x) > SAMPLE:
        x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:SAMPLE]]
    return float(uniformity(x))
