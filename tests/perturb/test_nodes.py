"""Node drops."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from graphcl.perturb.nodes import drop_nodes
from graphcl.testing import tiny_graph, undisturbed
from tests.perturb.test_edges import generator, larger
from tests.test_graph import dense_normalised, matrix_of


@pytest.mark.parametrize("fraction", [0, 0.1, 0.3, 0.7, 0.9])
def test_all_edges_of_the_floor_of_each_kind_go(fraction):
    graph = larger()
    whole = matrix_of(graph.adj)
    lonely = whole.sum(1) == 0
    part = drop_nodes(graph, fraction, generator(3))
    left = matrix_of(part.adj)
    assert part.num_nodes == graph.num_nodes  # the nodes keep their rows
    assert part.kinds == graph.kinds
    np.testing.assert_allclose(matrix_of(part.ops[0]), dense_normalised(left), rtol=1e-6)
    # Every edge that is gone has an end whose edges are all gone, and no other edge of a remaining pair of nodes is.
    gone = (left.sum(1) == 0) & ~lonely
    np.testing.assert_array_equal(left, whole * ~gone[:, None] * ~gone[None, :])


@pytest.mark.parametrize("fraction", [0.1, 0.29, 0.5, 0.9])
def test_counts_are_exact(fraction):
    """In a complete bipartite graph the nodes that lost their edges are those that were drawn; 0.29 of 100 was 28 in floats."""
    from graphcl.graph import Graph

    users, items = 100, 40
    first, second = np.divmod(np.arange(users * items), items)
    kinds = {"user": slice(0, users), "item": slice(users, users + items)}
    graph = Graph.from_pairs(first, second + users, users + items, kinds=kinds)
    gone = drop_nodes(graph, fraction, generator()).adj.degrees() == 0
    for kind, size in (("user", users), ("item", items)):
        assert int(gone[kinds[kind]].sum()) == Fraction(str(fraction)) * size // 1


def test_every_node_is_as_likely_to_go():
    graph, rng, gone = larger(), generator(), torch.zeros(52)
    known = graph.adj.degrees() > 0
    for _ in range(200):
        part = drop_nodes(graph, 0.2, rng)
        # A node whose partners all went is counted too; with 200 pairs that is rare.
        gone += part.adj.degrees() == 0
    assert (gone[known] / 200 - 0.2).abs().max() < 0.17


def test_function_of_graph_and_rng_alone():
    graph = tiny_graph(torch.float64)
    before = matrix_of(graph.adj)
    with undisturbed():
        one, same = (matrix_of(drop_nodes(graph, 0.4, generator(1)).adj) for _ in range(2))
    np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(matrix_of(graph.adj), before)
    assert len({matrix_of(drop_nodes(graph, 0.4, generator(seed)).adj).tobytes() for seed in range(10)}) > 3


@pytest.mark.parametrize("fraction", [-0.1, 1, float("nan")])
def test_fractions_outside_their_range_are_refused(fraction):
    with pytest.raises(ValueError, match=r"\[0, 1\)"):
        drop_nodes(tiny_graph(torch.float64), fraction, generator())
