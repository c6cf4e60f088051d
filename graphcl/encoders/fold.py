"""People outside the graph, seen through their histories."""

from __future__ import annotations

import torch
from scipy import sparse

from graphcl.graph import Graph
from graphcl.ops import Sparse


def history_operators(inputs: Graph, histories: sparse.csr_matrix, num_layers: int, device: torch.device) -> tuple[Sparse, ...]:
    """For each layer, what sends item rows [I, d] to new users [b, d]; ``histories`` is [b, I], any nonzero entry counts.

    Items keep the degrees that they have without these users, so one user's embedding depends on nobody else's.
    """
    items = inputs.kinds["item"]
    pattern = Sparse.from_scipy((histories != 0).astype("float32")).to(device)
    degrees = pattern.degrees().clamp_min(1).double()
    found = []
    for number in range(num_layers):
        sending = inputs.op(number)
        assert isinstance(sending, Sparse)
        left = degrees.pow(-inputs.exponents[0]).to(sending.left.dtype)
        found.append(pattern.scaled(left, sending.right[items].contiguous()))
    return tuple(found)
