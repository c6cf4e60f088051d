"""The trainable table that encoders without features start from."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from graphcl.ops import memory


def initial_table(
    sizes: Mapping[str, int],  # rows of each kind, in graph order
    dim: int,
    init: str | float,
    rng: torch.Generator,
) -> Tensor:  # [N, dim]
    """All kinds in one tensor, since the product reads it whole, each drawn as the table of its own size that it is elsewhere.

    ``init`` is "xavier" (bound sqrt(6 / (rows + dim)) for each kind, as the contrastive releases do) or the standard deviation
    of a normal. Raises ValueError for another.
    """
    if init != "xavier" and not 0 <= float(init) < float("inf"):
        raise ValueError(f"init must be 'xavier' or a standard deviation of 0 or more, got {init!r}")
    table = memory.empty(sum(sizes.values()), dim, torch.empty(0))
    for rows, block in zip(sizes.values(), table.split(list(sizes.values())), strict=True):
        if init == "xavier":
            bound = (6 / (rows + dim)) ** 0.5
            block.uniform_(-bound, bound, generator=rng)
        else:
            block.normal_(0, float(init), generator=rng)
    return table
