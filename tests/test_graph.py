"""Graphs against dense normalisation written out by hand."""

import numpy as np
import pytest
import torch
from scipy import sparse

from graphcl.graph import Graph, bipartite, normalise, normalised_adjacency
from graphcl.interactions import Interactions, Vocabulary
from graphcl.testing import check_operator, tiny_graph, tiny_interactions

# The tiny graph's pairs, user and item, each once.
PAIRS = [(0, 0), (0, 1), (1, 1), (1, 2), (1, 3), (2, 0), (2, 3), (3, 3), (3, 4)]


def dense_adjacency(pairs, num_nodes: int) -> np.ndarray:
    out = np.zeros((num_nodes, num_nodes))
    for a, b in pairs:
        out[a, b] = out[b, a] = 1
    return out


def dense_normalised(adjacency: np.ndarray, left: float = 0.5, right: float = 0.5) -> np.ndarray:
    degrees = adjacency.sum(1)
    out = np.zeros_like(adjacency)
    for i, j in zip(*np.nonzero(adjacency), strict=True):
        out[i, j] = degrees[i] ** -left * degrees[j] ** -right
    return out


def matrix_of(op) -> np.ndarray:
    return op.to_scipy().toarray()


TINY = dense_adjacency([(u, 5 + i) for u, i in PAIRS], 11)


def test_bipartite_is_normalised_by_both_degrees():
    graph = tiny_graph()
    np.testing.assert_array_equal(matrix_of(graph.adj), TINY)
    np.testing.assert_allclose(matrix_of(graph.ops[0]), dense_normalised(TINY), rtol=1e-6)
    # By hand: user 1 has 3 items, item 3 has 3 users; user 0 has 2, item 1 has 2.
    found = matrix_of(graph.ops[0])
    assert found[1, 8] == pytest.approx(1 / 3)
    assert found[6, 0] == pytest.approx(1 / 2)
    assert found[1, 6] == pytest.approx(6**-0.5)


def test_operator_contract():
    graph = tiny_graph(torch.float64)
    op = graph.ops[0]
    assert op.left.dtype == torch.float64
    assert graph.with_pairs(torch.ones(9, dtype=torch.bool)).ops[0].left.dtype == torch.float64
    assert tiny_graph().ops[0].left.dtype == torch.float32
    check_operator(op, op.left.double()[:, None] * torch.from_numpy(TINY) * op.right.double()[None])
    assert op.T is op


def test_unequal_exponents():
    """LightGCN++: the receiving node's degree to -0.6, the sending one's to 0.1."""
    graph = bipartite(tiny_interactions(), exponents=(0.6, -0.1))
    expected = dense_normalised(TINY, 0.6, -0.1)
    np.testing.assert_allclose(matrix_of(graph.ops[0]), expected, rtol=1e-6)
    np.testing.assert_allclose(matrix_of(graph.ops[0].T), expected.T, rtol=1e-6)
    assert not np.allclose(expected, expected.T)


def test_isolated_nodes_have_scale_zero_at_every_exponent():
    for exponents in ((0.5, 0.5), (1.0, 0.0), (0.6, -0.1)):
        op = bipartite(tiny_interactions(), exponents=exponents).ops[0]
        assert op.left[4] == op.left[10] == op.right[4] == op.right[10] == 0
        assert op.left.isfinite().all()
        assert op.right.isfinite().all()


def test_repeats_merge_to_one_edge():
    graph = tiny_graph()
    assert len(tiny_interactions()) == 10
    assert graph.num_pairs == 9
    assert graph.adj.nnz == 18
    assert graph.adj.degrees().tolist() == [2, 3, 2, 2, 0, 2, 2, 1, 3, 1, 0]


def test_degrees_are_those_of_the_interactions_that_are_given():
    """A held-out pair counts nowhere, though the parts share their vocabularies."""
    log = tiny_interactions()
    train = log.take(~((log.users == 1) & (log.items == 3)))
    graph = bipartite(train)
    kept = dense_adjacency([(u, 5 + i) for u, i in PAIRS if (u, i) != (1, 3)], 11)
    np.testing.assert_allclose(matrix_of(graph.ops[0]), dense_normalised(kept), rtol=1e-6)
    assert graph.num_nodes == 11


def test_no_self_loops():
    assert not matrix_of(tiny_graph().ops[0]).diagonal().any()
    graph = Graph.from_pairs(np.array([0, 1, 2]), np.array([0, 2, 2]), 3)
    np.testing.assert_array_equal(matrix_of(graph.adj), dense_adjacency([(1, 2)], 3))


def test_kinds_are_slices_of_the_rows():
    graph = tiny_graph()
    assert graph.kinds == {"user": slice(0, 5), "item": slice(5, 11)}
    np.testing.assert_array_equal(
        matrix_of(graph.adj)[graph.kinds["user"], graph.kinds["item"]], tiny_interactions().matrix.toarray()
    )
    assert Graph.from_pairs(np.array([0]), np.array([1]), 3).kinds == {"node": slice(0, 3)}


def test_pairs_and_the_entries_that_belong_to_them():
    graph = tiny_graph()
    assert [tuple(p) for p in graph.pairs.T.tolist()] == [(u, 5 + i) for u, i in PAIRS]
    rows = torch.repeat_interleave(torch.arange(11), graph.adj.degrees())
    ends = torch.stack([rows, graph.adj.col.long()])
    assert torch.equal(graph.pairs[:, graph.pair_of_entry], ends.sort(0).values)
    assert torch.bincount(graph.pair_of_entry).tolist() == [2] * 9
    assert torch.equal(ends[:, graph.mirror], ends.flip(0))


@pytest.mark.parametrize("exponents", [(0.5, 0.5), (0.6, -0.1)])
def test_a_graph_with_fewer_pairs_is_normalised_by_its_own_degrees(exponents):
    graph = bipartite(tiny_interactions(), exponents=exponents)
    keep = torch.tensor([True, False, True, True, False, False, True, False, True])
    part = graph.with_pairs(keep)
    left = dense_adjacency([(u, 5 + i) for (u, i), k in zip(PAIRS, keep.tolist(), strict=True) if k], 11)
    np.testing.assert_array_equal(matrix_of(part.adj), left)
    np.testing.assert_allclose(matrix_of(part.ops[0]), dense_normalised(left, *exponents), rtol=1e-6)
    assert part.num_pairs == 5
    again = part.with_pairs(torch.tensor([False, True, True, True, True]))
    np.testing.assert_array_equal(matrix_of(again.adj), left - dense_adjacency([(0, 5)], 11))
    np.testing.assert_array_equal(matrix_of(graph.adj), TINY)  # the whole is as it was


def test_a_graph_without_pairs():
    part = tiny_graph(torch.float64).with_pairs(torch.zeros(9, dtype=torch.bool))
    assert part.num_pairs == 0
    assert not (part.ops[0] @ torch.ones(11, 4, dtype=torch.float64)).any()
    empty = Graph.from_pairs(np.array([], dtype=int), np.array([], dtype=int), 3)
    assert matrix_of(empty.ops[0]).tolist() == [[0] * 3] * 3


@pytest.mark.parametrize("keep", [torch.tensor([0, 2]), torch.ones(8, dtype=torch.bool), torch.ones(9)])
def test_what_is_no_mask_of_the_pairs_is_refused(keep):
    """Positions instead of a mask once gave another graph without a word."""
    with pytest.raises(ValueError, match="mask of 9 pairs"):
        tiny_graph().with_pairs(keep)


def test_from_pairs_merges_repeats_in_either_direction():
    first, second = np.array([3, 0, 1, 3, 0, 2, 1]), np.array([0, 3, 2, 0, 1, 1, 1])
    graph = Graph.from_pairs(first, second, 5)
    expected = dense_adjacency([(0, 3), (1, 2), (0, 1)], 5)
    np.testing.assert_array_equal(matrix_of(graph.adj), expected)
    np.testing.assert_allclose(matrix_of(graph.ops[0]), dense_normalised(expected), rtol=1e-6)
    assert graph.num_pairs == 3
    assert (graph.pairs[0] < graph.pairs[1]).all()


def test_more_repeats_than_a_byte_counts():
    graph = Graph.from_pairs(np.zeros(256, dtype=int), np.ones(256, dtype=int), 2)
    assert matrix_of(graph.adj).tolist() == [[0, 1], [1, 0]]


def test_a_larger_random_graph():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 60, (2, 300))
    graph = Graph.from_pairs(first, second, 64)
    expected = dense_adjacency([(a, b) for a, b in zip(first, second, strict=True) if a != b], 64)
    np.testing.assert_array_equal(matrix_of(graph.adj), expected)
    keep = torch.from_numpy(rng.random(graph.num_pairs) < 0.5)
    kept = dense_adjacency(graph.pairs[:, keep].T.tolist(), 64)
    np.testing.assert_allclose(matrix_of(graph.with_pairs(keep).ops[0]), dense_normalised(kept), rtol=1e-6)


@pytest.mark.parametrize("pair", [(0, 5), (-1, 2)])
def test_nodes_outside_the_graph_are_refused(pair):
    with pytest.raises(ValueError, match=r"0\.\.4"):
        Graph.from_pairs(np.array([0, pair[0]]), np.array([1, pair[1]]), 5)


def test_normalise_takes_the_degrees_of_the_pattern():
    np.testing.assert_allclose(matrix_of(normalise(tiny_graph().adj, 1.0, 0.0)).sum(1), TINY.any(1).astype(float), rtol=1e-6)


def test_one_operator_serves_every_layer():
    graph = tiny_graph()
    assert graph.op(0) is graph.op(7) is graph.ops[0]


def test_to_a_device_keeps_everything():
    graph = Graph.from_pairs(np.array([0, 1]), np.array([1, 2]), 4, x=torch.ones(4, 2))
    moved = graph.to("cpu")
    for name in ("pairs", "pair_of_entry", "x"):
        assert torch.equal(getattr(moved, name), getattr(graph, name))
    assert moved.ids is moved.order is None
    assert moved.kinds == graph.kinds
    np.testing.assert_array_equal(matrix_of(moved.ops[0]), matrix_of(graph.ops[0]))


def test_pyg_and_back_in_the_callers_order():
    from torch_geometric.data import Data

    edges = torch.tensor([[6, 1, 1, 1, 4, 1, 2], [1, 6, 4, 3, 1, 1, 3]])  # both directions, one direction, a loop
    x = torch.arange(14.0).view(7, 2)
    graph = Graph.from_pyg(Data(x=x, edge_index=edges))
    expected = dense_adjacency([(1, 6), (1, 4), (1, 3), (2, 3)], 7)

    order = graph.order.numpy()
    assert sorted(order.tolist()) == list(range(7))
    np.testing.assert_array_equal(matrix_of(graph.adj), expected[np.ix_(order, order)])
    np.testing.assert_allclose(matrix_of(graph.ops[0]), dense_normalised(expected)[np.ix_(order, order)], rtol=1e-6)
    assert torch.equal(graph.x, x[graph.order])
    degrees = graph.adj.degrees()
    assert order[0] == 1
    assert degrees[0] == 3

    back = graph.to_pyg()
    assert torch.equal(back.x, x)
    assert back.num_nodes == 7
    np.testing.assert_array_equal(dense_adjacency(back.edge_index.T.tolist(), 7), expected)
    assert back.edge_index.shape == (2, 8)
    assert back.is_undirected()


def test_pyg_of_a_graph_that_was_not_renumbered():
    back = tiny_graph().to_pyg()
    np.testing.assert_array_equal(dense_adjacency(back.edge_index.T.tolist(), 11), TINY)
    assert back.num_nodes == 11
    assert back.x is None


def test_pyg_data_that_would_lose_something_is_refused():
    from torch_geometric.data import Data

    with pytest.raises(ValueError, match="no edge_index"):
        Graph.from_pyg(Data(num_nodes=3))
    for wrong in (-1, 3):
        with pytest.raises(ValueError, match=r"node numbers must lie in 0\.\.2, got"):
            Graph.from_pyg(Data(edge_index=torch.tensor([[0, wrong], [1, 2]]), num_nodes=3))
    edges = torch.tensor([[0, 1], [1, 2]])
    with pytest.raises(ValueError, match="edge_weight"):
        Graph.from_pyg(Data(edge_index=edges, edge_weight=torch.ones(2), num_nodes=3))


def test_a_graph_of_one_interaction():
    log = Interactions(
        np.array([0], dtype=np.int32),
        np.array([1], dtype=np.int32),
        Vocabulary(np.array(["a"], dtype=object)),
        Vocabulary(np.arange(2)),
    )
    np.testing.assert_array_equal(matrix_of(bipartite(log).ops[0]), dense_adjacency([(0, 2)], 3))


def test_a_directed_adjacency_is_normalised_by_the_released_expression():
    graph = sparse.csr_matrix(np.array([[2, 5, 0, 1], [0, 3, 1, 0], [4, 0, 0, 0], [0, 0, 0, 0]]))  # not symmetric, one empty row
    dense = graph.toarray().astype(np.float64)
    sums = dense.sum(1)
    scale = np.where(sums > 0, 1 / np.sqrt(np.maximum(sums, 1)), 0)
    expected = np.diag(scale) @ dense.T @ np.diag(scale)
    op = normalised_adjacency(graph)
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close((op @ x).double(), torch.from_numpy(expected) @ x.double(), atol=1e-6, rtol=1e-6)
    np.testing.assert_allclose(op.to_scipy().toarray(), expected, atol=1e-7)
