"""MCLRec's contrastive regulariser: a brake on how far positives and negatives part."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def contrastive_regulariser(
    first: Tensor,  # [n, d]
    second: Tensor,  # [n, d], row by row the positives
    thresholds: Literal["row", "batch"],
) -> Tensor:  # scalar
    """mean [p - low]+ + mean [high - q]+ over the similarities p of partners and q of all other rows of both views.

    low = min(least p, greatest q) and high = max(least p, greatest q), of each row or of the batch.

    Raises:
        ValueError: thresholds of neither.

    Source: "batch": Qin et al., "Meta-optimized Contrastive Learning for Sequential Recommendation", SIGIR 2023, eq. 11-13; "row":
    QinHsiu/MCLRec@bc8d622. Gradients pass through the thresholds in both.
    """
    if thresholds not in ("row", "batch"):
        raise ValueError(f"thresholds must be row or batch, got {thresholds!r}")
    n = len(first)
    if n < 2:  # nobody to be kept from
        return (first * 0).sum()
    both = torch.cat([first, second])
    similar = both @ both.T
    partner = (first * second).sum(1).repeat(2)
    places = torch.arange(2 * n, device=both.device)
    others = (places % n)[:, None] != places % n
    hardest = similar.masked_fill(~others, -torch.inf).amax(1)
    least, greatest = (partner, hardest) if thresholds == "row" else (partner.min(), hardest.max())
    low, high = torch.minimum(least, greatest), torch.maximum(least, greatest)
    gaps = (high.unsqueeze(-1) - similar).relu() if thresholds == "row" else (high - similar).relu()
    return (partner - low).relu().mean() + gaps.masked_fill(~others, 0.0).sum() / (2 * n * (2 * n - 2))
