"""Communities of a graph by label propagation, none larger than asked for."""

from __future__ import annotations

import math

import numba
import numpy as np
import torch
from torch import Tensor

from graphcl.graph import Graph


def communities(graph: Graph, *, largest: int | None = None, rounds: int = 10, rng: torch.Generator) -> Tensor:  # [N] int64
    """The community of each node, 0..K - 1, as :class:`graphcl.objectives.ClusterState` takes clusters that are given.

    Every node begins alone. In each round nodes are visited in random order and move to the community that most of their neighbours are in, of
    equal ones to the lowest number, unless it has ``largest`` members (``4 sqrt(N)`` by default), until no node moves. A round costs O(E).
    An isolated node stays alone.

    Raises:
        ValueError: a number below 1.

    Source: Raghavan et al., 2007; bounded sizes as Meyerhenke et al., 2014.
    """
    for name, value in (("largest", largest), ("rounds", rounds)):
        if value is not None and value < 1:
            raise ValueError(f"{name} must be 1 or more, got {value}")
    count = graph.num_nodes
    bound = largest or math.ceil(4 * math.sqrt(count))
    rows, cols = graph.adj.rowptr.cpu().numpy().astype(np.int64), graph.adj.col.cpu().numpy().astype(np.int64)
    labels, sizes, votes = np.arange(count), np.ones(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    for _ in range(rounds):
        order = torch.randperm(count, generator=rng).numpy()
        if not _visit(order, rows, cols, labels, sizes, votes, bound):
            break
    return torch.from_numpy(np.unique(labels, return_inverse=True)[1].astype(np.int64))


@numba.njit(cache=True)
def _visit(order, rows, cols, labels, sizes, votes, bound):  # type: ignore[no-untyped-def]
    """One round, in place; how many nodes moved. ``votes`` is all 0 before and after."""
    moved = 0
    for node in order:
        own = labels[node]
        for place in range(rows[node], rows[node + 1]):
            votes[labels[cols[place]]] += 1
        best, most = own, votes[own]
        for place in range(rows[node], rows[node + 1]):
            label = labels[cols[place]]
            more = votes[label] > most or (votes[label] == most and label < best)
            if label != own and more and votes[label] > 0 and sizes[label] < bound:
                best, most = label, votes[label]
        for place in range(rows[node], rows[node + 1]):
            votes[labels[cols[place]]] = 0
        if best != own:
            labels[node] = best
            sizes[own] -= 1
            sizes[best] += 1
            moved += 1
    return moved
