"""Fewer nodes."""

from __future__ import annotations

import torch

from graphcl.graph import Graph
from graphcl.ops import draw_key, uniform
from graphcl.perturb.edges import check_fraction, part_of


def drop_nodes(graph: Graph, fraction: float, rng: torch.Generator) -> Graph:
    """Deletes every edge of ``floor(fraction n)`` nodes of each kind; the nodes keep their row (SGL-ND).

    Source: Wu et al., SIGIR 2021; wujcan/SGL-Torch@c563288.
    """
    check_fraction(fraction, "fraction")
    gone = torch.zeros(graph.num_nodes, dtype=torch.bool, device=graph.device)
    for rows in graph.kinds.values():
        numbers = torch.arange(rows.start, rows.stop, device=gone.device)
        draws = uniform(draw_key(rng), numbers)[:, 0]
        gone[numbers[draws.argsort(stable=True)[: part_of(fraction, len(numbers))]]] = True
    return graph.with_pairs(~gone[graph.pairs].any(0))
