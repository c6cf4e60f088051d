"""Label propagation: cliques are found, sizes are kept, and each step is the one that a slow loop takes."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
import torch

from graphcl.communities import communities
from graphcl.graph import Graph


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def cliques(sizes, bridges=()):
    pairs, start = list(bridges), 0
    for size in sizes:
        pairs += combinations(range(start, start + size), 2)
        start += size
    first, second = np.array(pairs).T
    return Graph.from_pairs(first, second, start + 1)  # the last node is isolated


def slow(graph, bound, rounds, generator):
    near = [graph.adj.to_scipy()[i].indices.tolist() for i in range(graph.num_nodes)]
    labels = list(range(graph.num_nodes))
    for _ in range(rounds):
        moved = False
        for node in torch.randperm(graph.num_nodes, generator=generator).tolist():
            votes, sizes, own = Counter(labels[j] for j in near[node]), Counter(labels), labels[node]
            open_to = [label for label in votes if label == own or sizes[label] < bound]
            best = min([*open_to, own], key=lambda label: (-votes[label], label))
            moved |= best != own
            labels[node] = best
        if not moved:
            break
    return labels


@pytest.mark.parametrize("bound", [3, 100])
def test_equals_a_slow_loop(bound):
    generator = np.random.default_rng(0)
    graph = Graph.from_pairs(*np.triu(generator.random((30, 30)) < 0.15, 1).nonzero(), 30)
    got, expected = communities(graph, largest=bound, rng=rng()), slow(graph, bound, 10, rng())
    assert torch.equal(got, torch.from_numpy(np.unique(expected, return_inverse=True)[1]))
    assert torch.bincount(got).max() <= bound


def test_cliques_and_an_isolated_node():
    found = communities(cliques([8, 8, 8], [(0, 8), (8, 16)]), largest=8, rng=rng())
    assert len(found.unique()) == 4
    for start in (0, 8, 16):
        assert len(found[start : start + 8].unique()) == 1
    assert (found == found[24]).sum() == 1


def test_none_is_larger_than_asked_for():
    found = communities(cliques([40]), largest=7, rng=rng())
    assert torch.bincount(found).max() <= 7


@pytest.mark.parametrize("given", [{"largest": 0}, {"rounds": 0}])
def test_bad_input(given):
    with pytest.raises(ValueError, match="must be 1 or more"):
        communities(cliques([3]), rng=rng(), **given)
