"""Fewer edges: exact fractions of pairs, walks, and value dropout. The graph that is handed in stays as it is."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from graphcl.graph import Graph
from graphcl.ops import Sparse, draw_key, uniform


def smallest(key: int, rows: Tensor, take: int) -> Tensor:  # bool [n]
    """Exactly ``take`` of the row numbers, chosen uniformly by their draws of ``key``."""
    chosen = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    chosen[uniform(key, rows)[:, 0].argsort(stable=True)[:take]] = True
    return chosen


def check_fraction(fraction: float, name: str) -> None:
    if not 0 <= fraction < 1:
        raise ValueError(f"{name} must lie in [0, 1), got {fraction}")


def part_of(fraction: float, count: int) -> int:
    """``floor(fraction * count)`` of the decimal that was written: 0.29 of 100 is 29, where floats say 28.999999999999996."""
    return math.floor(round(fraction * count, 6))


def drop_edges(graph: Graph, fraction: float, rng: torch.Generator) -> Graph:
    """Keeps ``floor((1 - fraction) E)`` pairs, both directions of each, normalised by the degrees that are left (SGL-ED).

    Source: Wu et al., SIGIR 2021; wujcan/SGL-Torch@c563288.
    """
    check_fraction(fraction, "fraction")
    kept = part_of(1 - fraction, graph.num_pairs)
    return graph.with_pairs(smallest(draw_key(rng), torch.arange(graph.num_pairs, device=graph.device), kept))


def random_walk(graph: Graph, fraction: float, num_layers: int, rng: torch.Generator) -> Graph:
    """An independent edge drop for every layer (SGL-RW). ``adj`` stays whole, ``ops`` has one operator per layer."""
    check_fraction(fraction, "fraction")
    return replace(graph, ops=tuple(drop_edges(graph, fraction, rng).ops[0] for _ in range(num_layers)))


def dropout_edges(graph: Graph, p: float, num_layers: int, rng: torch.Generator) -> Graph:
    """Zeroes each directed entry with probability ``p`` and scales the rest by ``1 / (1 - p)``, anew for every layer; degrees
    stay those of the whole graph (LightGCL's and LightGCN's option).

    Source: HKUDS/LightGCL@5590453.
    """
    check_fraction(p, "p")
    op, adj = graph.ops[0], graph.adj
    if len(graph.ops) > 1 or not isinstance(op, Sparse) or op.values is not None:
        raise ValueError("dropout_edges needs a graph with one operator, a normalised pattern")

    def dropped() -> Sparse:
        draws = uniform(draw_key(rng), torch.arange(adj.nnz, device=adj.col.device))[:, 0]
        values = (draws >= p).to(op.left.dtype) / (1 - p)
        there = Sparse(adj.rowptr, adj.col, adj.shape, values=values, left=op.left, right=op.right)
        back = Sparse(adj.rowptr, adj.col, adj.shape, values=values[graph.mirror], left=op.right, right=op.left, transpose=there)
        there._transpose = back
        return there

    return replace(graph, ops=tuple(dropped() for _ in range(num_layers)))
