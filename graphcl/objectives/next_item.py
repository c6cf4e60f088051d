"""Losses of the next item. Positions with a target are chosen before any product with the catalogue.

Each is a mean over targets. Negatives of the sampled ones are shared by the batch, [k], or each target's own, [R, k].
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from graphcl.objectives.log_sum_exp import log_sum_exp
from graphcl.ops import gather_rows

TILE_ENTRIES = 2**22  # logits held at a time: 16 MiB of float32


def full_softmax(
    hidden: Tensor,  # [R, d]
    table: Tensor,  # [I, d]
    targets: Tensor,  # [R]
    *,
    tile_entries: int = TILE_ENTRIES,
) -> Tensor:  # scalar
    """Cross-entropy over the whole catalogue, by tiles: the logits [R, I] are never held."""
    lse = log_sum_exp(hidden, table, 1.0, tile_entries=tile_entries, weights=hidden.new_ones(len(hidden)))
    return (lse - _targets(hidden, table, targets)).mean()


def sampled_softmax(
    hidden: Tensor,  # [R, d]
    table: Tensor,  # [I, d]
    targets: Tensor,  # [R]
    negatives: Tensor,  # [k] or [R, k], drawn uniformly
    *,
    log_q: bool = False,
) -> Tensor:  # scalar
    """Cross-entropy among the target and drawn items; a negative that is the target does not count.

    ``log_q``: each negative stands for the (I - 1) / (number of negatives) items it was drawn from, which makes the denominator an
    unbiased estimate of the full one.
    """
    positive, negative = _targets(hidden, table, targets), _drawn(hidden, table, targets, negatives)
    if log_q:
        counted = (negative > -torch.inf).sum(1, keepdim=True).clamp_min(1).to(negative.dtype)
        negative = negative + math.log(max(1, len(table) - 1)) - counted.log()
    return (torch.cat([positive[:, None], negative], 1).logsumexp(1) - positive).mean()


def binary(
    hidden: Tensor,  # [R, d]
    table: Tensor,  # [I, d]
    targets: Tensor,  # [R]
    negatives: Tensor,  # [k] or [R, k]
) -> Tensor:  # scalar
    """-log s(positive) - sum over negatives of log(1 - s(negative)), s the sigmoid; a negative that is the target does not count."""
    positive, negative = _targets(hidden, table, targets), _drawn(hidden, table, targets, negatives)
    return (F.softplus(-positive) + F.softplus(negative).sum(1)).mean()


def calibrated_binary(
    hidden: Tensor,  # [R, d]
    table: Tensor,  # [I, d]
    targets: Tensor,  # [R]
    negatives: Tensor,  # [k] or [R, k]
    *,
    calibration: float,  # t: 0 is plain binary cross-entropy, 1 calibrates probabilities wholly
) -> Tensor:  # scalar
    """gBCE: the positive's probability is raised to beta; a mean over the target and its k negatives.

    sigmoid(g(s)) = sigmoid(s) ** beta for the released transform g(s) = -log(sigmoid(s) ** -beta - 1), so the term is
    -beta log sigmoid(s), which needs no transform and no clamp.

    Source: Petrov and Macdonald, "gSASRec", RecSys 2023; asash/gSASRec-pytorch@7e35028. Departs: a negative that is the target does
    not count.
    """
    positive, negative = _targets(hidden, table, targets), _drawn(hidden, table, targets, negatives)
    k = negatives.shape[-1]
    beta = power(k, len(table), calibration)
    return (beta * F.softplus(-positive) + F.softplus(negative).sum(1)).mean() / (k + 1)


def power(num_negatives: int, num_items: int, calibration: float) -> float:
    """gBCE's beta."""
    rate = num_negatives / max(1, num_items - 1)  # alpha
    return rate * (calibration * (1 - 1 / rate) + 1 / rate)


def _targets(hidden: Tensor, table: Tensor, targets: Tensor) -> Tensor:  # [R]
    return (hidden * gather_rows(table, targets)).sum(1)


def _drawn(hidden: Tensor, table: Tensor, targets: Tensor, negatives: Tensor) -> Tensor:  # [R, k]
    """Their logits, -inf for one that is the target."""
    rows = gather_rows(table, negatives.flatten())
    own = negatives.dim() == 2
    logits = (hidden[:, None] * rows.view(*negatives.shape, -1)).sum(2) if own else hidden @ rows.T
    return logits.masked_fill(negatives == targets[:, None], -torch.inf)
