"""Fewer nodes."""

from __future__ import annotations

import torch

from graphcl.graph import Graph
from graphcl.ops import draw_key
from graphcl.perturb.edges import check_fraction, part_of, smallest


def drop_nodes(graph: Graph, fraction: float, rng: torch.Generator) -> Graph:
    """Deletes every edge of ``floor(fraction n)`` nodes of each kind; the nodes keep their row (SGL-ND).

    Source: Wu et al., SIGIR 2021; wujcan/SGL-Torch@c563288.
    """
    check_fraction(fraction, "fraction")
    gone = torch.zeros(graph.num_nodes, dtype=torch.bool, device=graph.device)
    for rows in graph.kinds.values():
        numbers = torch.arange(rows.start, rows.stop, device=gone.device)
        gone[rows] = smallest(draw_key(rng), numbers, part_of(fraction, len(numbers)))
    return graph.with_pairs(~gone[graph.pairs].any(0))
