"""Pairwise ranking."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def bpr(
    users: Tensor,  # [B, d]
    positives: Tensor,  # [B, d]
    negatives: Tensor,  # [B, d]
) -> Tensor:
    """``mean softplus(<u, j> - <u, i>)`` over triples.

    Source: Rendle et al., UAI 2009.
    Departs: SELFRec and RecBole add 1e-5 and 1e-10 inside ``log(sigmoid(x))``, which kills gradients at large margins; LightGCL
    guards nothing and can reach infinity.
    """
    return F.softplus((users * negatives).sum(-1) - (users * positives).sum(-1)).mean()


def hinge(users: Tensor, positives: Tensor, negatives: Tensor, *, count: int) -> Tensor:
    """``sum max(0, 1 - <u, i> + <u, j>) / count`` (LightGCL's paper version divides by the users of a batch)."""
    return F.relu(1 - (users * positives).sum(-1) + (users * negatives).sum(-1)).sum() / count
