"""Edge drops: exact counts, both directions, degrees of what is left."""

import dataclasses
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch

from graphcl.graph import Graph, bipartite
from graphcl.ops import LowRank
from graphcl.perturb.edges import drop_edges, dropout_edges, random_walk
from graphcl.testing import check_operator, tiny_graph, tiny_interactions, undisturbed
from tests.test_graph import dense_normalised, matrix_of


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def larger() -> Graph:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 30, 200), rng.integers(30, 50, 200)
    return Graph.from_pairs(first, second, 52, kinds={"user": slice(0, 30), "item": slice(30, 52)}, dtype=torch.float64)


@pytest.mark.parametrize("fraction", [0, 0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 0.999])
def test_keeps_exactly_the_floor(fraction):
    """With 10 pairs and a fraction of 0.9 floats once said int(0.0999.. * 10) = 0."""
    for num_pairs in (9, 10, 30, 100):
        graph = Graph.from_pairs(np.zeros(num_pairs, dtype=int), np.arange(1, num_pairs + 1), num_pairs + 2)
        assert drop_edges(graph, fraction, generator()).num_pairs == (1 - Fraction(str(fraction))) * num_pairs // 1


@pytest.mark.parametrize("exponents", [(0.5, 0.5), (0.6, -0.1)])
def test_what_is_left_is_symmetric_and_normalised_by_its_own_degrees(exponents):
    graph = bipartite(tiny_interactions(), exponents=exponents, dtype=torch.float64)
    whole = matrix_of(graph.adj)
    for seed in range(5):
        part = drop_edges(graph, 0.4, generator(seed))
        left = matrix_of(part.adj)
        np.testing.assert_array_equal(left, left.T)
        assert (left <= whole).all()
        assert left.sum() == 2 * 5
        np.testing.assert_allclose(matrix_of(part.ops[0]), dense_normalised(left, *exponents), rtol=1e-6)
    op = part.ops[0]
    check_operator(op, op.left.double()[:, None] * torch.from_numpy(left) * op.right.double()[None])


def test_every_pair_is_as_likely_to_stay():
    graph, kept, rng = tiny_graph(torch.float64), torch.zeros(9), generator()
    for _ in range(400):
        part = drop_edges(graph, 0.3, rng)  # floor(6.3) of 9 stay
        kept[(graph.pairs[:, :, None] == part.pairs[:, None, :]).all(0).any(1)] += 1
    assert kept.sum() == 400 * 6
    assert (kept / 400 - 6 / 9).abs().max() < 5 * (6 / 9 * 3 / 9 / 400) ** 0.5


@pytest.mark.parametrize(
    "change",
    [lambda g, r: drop_edges(g, 0.5, r), lambda g, r: random_walk(g, 0.5, 3, r), lambda g, r: dropout_edges(g, 0.5, 3, r)],
)
def test_function_of_graph_and_rng_alone(change):
    graph = larger()
    before = [matrix_of(graph.adj), matrix_of(graph.ops[0]), graph.pairs.clone()]
    with undisturbed():
        one, same, other = change(graph, generator(1)), change(graph, generator(1)), change(graph, generator(2))
    for a, b, c in zip(one.ops, same.ops, other.ops, strict=True):
        np.testing.assert_array_equal(matrix_of(a), matrix_of(b))
        assert (matrix_of(a) != matrix_of(c)).any()
    for was, now in zip(before, [matrix_of(graph.adj), matrix_of(graph.ops[0]), graph.pairs], strict=True):
        np.testing.assert_array_equal(was, now)
    rng = generator(1)
    assert (matrix_of(change(graph, rng).ops[0]) != matrix_of(change(graph, rng).ops[0])).any()


def test_random_walk_drops_anew_for_every_layer():
    graph = larger()
    walk = random_walk(graph, 0.25, 3, generator())
    assert len(walk.ops) == 3
    assert walk.op(2) is walk.ops[2]
    np.testing.assert_array_equal(matrix_of(walk.adj), matrix_of(graph.adj))
    whole = matrix_of(graph.adj)
    patterns = []
    for op in walk.ops:
        pattern = (matrix_of(op) != 0).astype(float)
        assert pattern.sum() == 2 * (graph.num_pairs * 3 // 4)
        assert (pattern <= whole).all()
        np.testing.assert_allclose(matrix_of(op), dense_normalised(pattern), rtol=1e-6)
        patterns.append(pattern)
    # Independent: two layers share 3/4 of a layer's edges, give or take.
    for a, b in pairwise(patterns):
        assert abs((a * b).sum() / a.sum() - 0.75) < 0.12


def test_dropout_keeps_the_degrees_and_the_expectation():
    graph, p = tiny_graph(torch.float64), 0.3
    whole = matrix_of(graph.ops[0])
    total, kept, rng = np.zeros_like(whole), 0, generator()
    for _ in range(60):
        for op in dropout_edges(graph, p, 5, rng).ops:
            found = matrix_of(op)
            there = found != 0
            np.testing.assert_allclose(found[there], whole[there] / (1 - p), rtol=1e-6)
            total, kept = total + found, kept + there.sum()
    n = 300
    assert abs(kept / (18 * n) - (1 - p)) < 5 * (p * (1 - p) / (18 * n)) ** 0.5
    off = np.abs(total / n - whole)[whole > 0] / whole[whole > 0]
    assert off.max() < 5 * (p / (1 - p) / n) ** 0.5


def test_dropout_treats_the_two_directions_and_the_layers_apart():
    first, second = (matrix_of(op) for op in dropout_edges(larger(), 0.5, 2, generator()).ops)
    assert ((first != 0) != (first != 0).T).any()
    assert ((first != 0) != (second != 0)).any()


@pytest.mark.parametrize("exponents", [(0.5, 0.5), (0.6, -0.1)])
def test_dropout_operators_keep_the_contract(exponents):
    graph = bipartite(tiny_interactions(), exponents=exponents, dtype=torch.float64)
    op = dropout_edges(graph, 0.5, 1, generator()).ops[0]
    # What remains is scaled by 2, which is exact; so is the dense product of the two float32 scales in float64.
    dense = op.left.double()[:, None] * torch.from_numpy(matrix_of(op) != 0) * 2 * op.right.double()[None]
    check_operator(op, dense)
    np.testing.assert_array_equal(matrix_of(op.T), matrix_of(op).T)
    assert op.T.T is op


def test_dropout_of_nothing_is_the_graph():
    np.testing.assert_array_equal(
        matrix_of(dropout_edges(tiny_graph(torch.float64), 0.0, 1, generator()).ops[0]),
        matrix_of(tiny_graph(torch.float64).ops[0]),
    )


def test_dropout_needs_the_whole_pattern():
    """A walk's operators have fewer entries than ``adj``; dropping from them by ``adj`` mixed the degrees of both."""
    for graph in (
        random_walk(tiny_graph(torch.float64), 0.2, 2, generator()),
        dataclasses.replace(tiny_graph(torch.float64), ops=(LowRank(torch.ones(11, 1), torch.ones(11, 1)),)),
        dropout_edges(tiny_graph(torch.float64), 0.2, 1, generator()),
    ):
        with pytest.raises(ValueError, match="normalised pattern"):
            dropout_edges(graph, 0.1, 2, generator())


@pytest.mark.parametrize("fraction", [-0.1, 1, 1.5, float("nan")])
def test_fractions_outside_their_range_are_refused(fraction):
    for change in (drop_edges, lambda g, f, r: random_walk(g, f, 2, r), lambda g, f, r: dropout_edges(g, f, 2, r)):
        with pytest.raises(ValueError, match=r"\[0, 1\)"):
            change(tiny_graph(torch.float64), fraction, generator())
