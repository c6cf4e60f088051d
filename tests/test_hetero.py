"""Heterogeneous graphs: every number against dense products in float64."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import sparse
from torch.testing import assert_close
from torch_geometric.data import HeteroData

from graphcl.hetero import HeteroGraph
from graphcl.testing import check_operator

RNG = np.random.default_rng(0)
COUNTS = {"author": 9, "paper": 14, "conference": 4, "term": 7}


def pattern(n: int, m: int, density: float) -> np.ndarray:
    return (RNG.random((n, m)) < density).astype(np.float64)


AP, PT = pattern(9, 14, 0.2), pattern(14, 7, 0.3)
AP[4], AP[:, 3], PT[5] = 0, 0, 0  # an author without papers, a paper without authors, one without terms
PC = np.eye(4)[RNG.integers(0, 3, 14)]  # one conference each; the last has none
HOPS = {("author", "paper"): AP, ("paper", "conference"): PC, ("paper", "term"): PT}
NAMES = {"A": "author", "P": "paper", "C": "conference", "T": "term"}


def graph(**changes) -> HeteroGraph:
    edges = {ends: np.stack(hop.nonzero()) for ends, hop in HOPS.items()}
    edges["author", "paper"] = np.repeat(edges["author", "paper"], 2, axis=1)  # every edge twice
    edges["paper", "author"] = edges.pop(("author", "paper"))[::-1]  # given the other way round
    return HeteroGraph.from_edges(**{"counts": COUNTS, "edges": edges, "target": "author", **changes})


def hop(a: str, b: str) -> np.ndarray:
    a, b = NAMES[a], NAMES[b]
    return HOPS[a, b] if (a, b) in HOPS else HOPS[b, a].T


def dense(path: str) -> np.ndarray:
    found = hop(path[0], path[1])
    for a, b in pairwise(path[1:]):
        found = found @ hop(a, b)
    return found


# --- paths ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["AP", "PA", "APA", "APC", "APCPA", "TPAPT", "CPT"])
def test_a_path_is_the_dense_product(path):
    check_operator(graph().path(path), torch.from_numpy(dense(path)))


def test_no_product_is_formed():
    counts = {"a": 50_000, "b": 1}
    ends = np.stack([np.arange(50_000), np.zeros(50_000, dtype=np.int64)])
    star = HeteroGraph.from_edges(counts, {("a", "b"): ends}, "a")
    assert bool((star.path("aba") @ torch.ones(50_000, 1) == 50_000).all())  # 2.5e9 entries as a matrix
    assert star.instances("aba") == 50_000**2


@pytest.mark.parametrize("path", ["AP", "APA", "APCPA", "APTPA", "TPC"])
def test_instances_and_pairs(path):
    assert graph().instances(path) == dense(path).sum()
    if path == path[::-1]:
        assert graph().pairs(path) == np.count_nonzero(dense(path))


def test_half():
    half = graph().half("APTPA")
    assert half.dtype == np.int64
    np.testing.assert_array_equal(half.toarray(), dense("APT"))
    np.testing.assert_array_equal((half @ half.T).toarray(), dense("APTPA"))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("AP", "meta-path 'AP' must read the same both ways around a middle type, as APA or APCPA does"),
        ("APPA", "there is no relation between paper and paper"),
        ("APC", "must read the same both ways"),
    ],
)
def test_a_half_needs_a_middle(path, said):
    with pytest.raises(ValueError, match=said):
        graph().half(path)


def test_citations_are_their_own_reverse_only_where_symmetric():
    """A A is not A A', which the half of a path stands for."""
    cites = np.array([[0, 1, 2], [1, 2, 0]])
    one_way = HeteroGraph.from_edges({"paper": 4}, {("paper", "paper"): cites}, "paper")
    np.testing.assert_array_equal(one_way.path("PPP") @ torch.eye(4), np.eye(4)[[2, 0, 1, 3]] * [[1], [1], [1], [0]])
    with pytest.raises(ValueError, match="not its own reverse, for the relation paper-paper is not symmetric"):
        one_way.half("PPP")
    both = HeteroGraph.from_edges({"paper": 4}, {("paper", "paper"): np.hstack([cites, cites[::-1]])}, "paper")
    assert both.half("PPP").nnz == 6


# --- meta-paths as they are written ---------------------------------------------------------------------------------------


def test_spellings_of_a_meta_path():
    apc = ("author", "paper", "conference")
    for written in ("APC", "apc", "author-paper-conference", "A-P-C", list(apc), apc, ("A", "paper", "c")):
        assert graph().types(written) == apc
    small = HeteroGraph.from_edges({"a": 1, "A": 2}, {("a", "A"): np.zeros((2, 1), dtype=int)}, "a")
    assert small.types("aAa") == ("a", "A", "a")


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("ATA", "meta-path 'ATA': there is no relation between author and term; relations: paper-conference, "),
        ("AXA", "meta-path 'AXA': 'X' is no type; types: author, paper, conference, term"),
        ("author-papers-author", "'papers' is no type"),
        ("A", "meta-path 'A' needs at least two types"),
        ("author", "meta-path 'author' needs at least two types"),
        (["author", "topic"], "meta-path author-topic: 'topic' is no type"),
        ("", "needs at least two types"),
    ],
)
def test_meta_paths_that_do_not_compose(path, said):
    for method in ("types", "path", "instances", "half", "contexts"):
        with pytest.raises(ValueError, match=said):
            getattr(graph(), method)(path)


def test_a_type_with_a_dash_in_its_name():
    named = HeteroGraph.from_edges({"a": 2, "b-c": 3}, {("a", "b-c"): np.array([[0, 1], [0, 2]])}, "a")
    assert named.types(["a", "b-c", "a"]) == ("a", "b-c", "a")
    with pytest.raises(ValueError, match="'c' is no type; types: a, b-c; give the types as a list, for '-' parts them in a text"):
        named.types("a-b-c-a")


def test_initials_that_could_be_two_types():
    ends = np.zeros((2, 1), dtype=int)
    two = HeteroGraph.from_edges({"paper": 1, "person": 1}, {("paper", "person"): ends}, "paper")
    with pytest.raises(ValueError, match="'P' could be paper or person"):
        two.types("PPP")
    assert two.types("paper-person-paper") == ("paper", "person", "paper")


# --- PathSim ----------------------------------------------------------------------------------------------------------------


def scores(counts: np.ndarray) -> np.ndarray:
    """2 c_ij / (c_ii + c_jj) entry by entry; 0 where there is no path."""
    found = np.zeros_like(counts)
    for i, j in zip(*counts.nonzero(), strict=True):
        found[i, j] = 2 * counts[i, j] / (counts[i, i] + counts[j, j])
    return found


@pytest.mark.parametrize("path", ["APA", "APCPA", "APTPA", "TPT"])
@pytest.mark.parametrize("k", [1, 3, 5, 100, None])
@pytest.mark.parametrize("tie", ["random", "released"])
def test_pathsim_keeps_the_best_of_each_row(path, k, tie):
    counts = dense(path)
    kept = graph().pathsim(path, k, tie=tie, rng=torch.Generator().manual_seed(1)).toarray()
    np.testing.assert_array_equal(kept[kept > 0], counts[kept > 0])  # path counts, not scores
    for row, score in zip(kept, scores(counts), strict=True):
        best = np.sort(score[score > 0])[::-1][:k]
        np.testing.assert_array_equal(np.sort(score[row > 0])[::-1], best)


def test_pathsim_of_the_release_is_the_end_of_the_sorted_row():
    counts = dense("APTPA")
    kept = graph().pathsim("APTPA", 4, tie="released").toarray()
    for i, score in enumerate(scores(counts)):
        chosen = np.argsort(score)[-4:]
        expected = np.zeros(9)
        expected[chosen] = counts[i, chosen]
        np.testing.assert_array_equal(kept[i], expected)


def test_an_isolated_target_has_an_empty_row():
    for k in (2, None):
        kept = graph().pathsim("APA", k, rng=torch.Generator().manual_seed(0))
        assert kept[4].nnz == kept[:, 4].nnz == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("APA", 0), "k must be 1 or more, got 0"),
        (("APA", 3), "ties at the limit are broken at random: give rng, a torch.Generator"),
        (("APC", 3), "must read the same both ways"),
    ],
)
def test_wrong_pathsim(arguments, said):
    with pytest.raises(ValueError, match=said):
        graph().pathsim(*arguments)
    with pytest.raises(ValueError, match="tie must be one of random, released, got 'first'"):
        graph().pathsim("APA", 3, tie="first")


# --- contexts ---------------------------------------------------------------------------------------------------------------


def boolean_mean(path: str) -> np.ndarray:
    seen = (dense(path) > 0).astype(np.float64)
    return seen / np.maximum(seen.sum(1, keepdims=True), 1)


def instance_mean(path: str, middle: int) -> np.ndarray:
    found = (dense(path[: middle + 1]) > 0).astype(np.float64) @ dense(path[middle:])
    return found / np.maximum(found.sum(1, keepdims=True), 1)


def matrix(context) -> np.ndarray:
    return (context.mean @ torch.eye(context.mean.shape[1])).double().numpy()


@pytest.mark.parametrize("path", ["APA", "APCPA", "APTPA", "APC", "APCP"])
def test_contexts_count_each_node_once_up_to_the_middle(path):
    found = graph().contexts(path)
    assert [c.type for c in found] == [NAMES[t] for t in path[1:-1]]
    for place, context in enumerate(found, 1):
        if place <= len(path) // 2:
            np.testing.assert_allclose(matrix(context), boolean_mean(path[: place + 1]), atol=1e-6)


def test_contexts_beyond_the_middle_are_means_over_instances():
    last = graph().contexts("APTPA")[-1]
    np.testing.assert_allclose(matrix(last), instance_mean("APTP", 2), atol=1e-6)
    assert np.abs(instance_mean("APTP", 2) - boolean_mean("APTP")).max() > 0.01  # which is another thing
    # Each paper has one conference, so a paper is seen along one path only.
    np.testing.assert_allclose(matrix(graph().contexts("APCPA")[-1]), boolean_mean("APCP"), atol=1e-6)


def test_distinct_contexts():
    for path in ("APTPA", "APCPA"):
        for place, context in enumerate(graph().contexts(path, distinct=True), 1):
            np.testing.assert_allclose(matrix(context), boolean_mean(path[: place + 1]), atol=1e-6)


def test_contexts_are_operators_and_an_isolated_target_sees_zeros():
    for context in graph().contexts("APTPA"):
        op = context.mean
        x = torch.randn(op.shape[1], 3, requires_grad=True)
        y = torch.randn(op.shape[0], 3)
        assert bool(((op @ x)[4] == 0).all())
        assert bool((op @ x).isfinite().all())
        assert_close(((op @ x) * y).sum(), (x * (op.T @ y)).sum(), rtol=1e-4, atol=1e-5)
        gradient = torch.autograd.grad(((op @ x) * y).sum(), x)[0]
        assert_close(gradient, torch.from_numpy(matrix(context)).float().T @ y, rtol=1e-4, atol=1e-5)
        assert_close(op.rows(torch.tensor([4, 0])) @ x, (op @ x)[[4, 0]])


def test_contexts_start_at_the_target():
    with pytest.raises(ValueError, match="meta-path 'PAP' must start at the target type, author"):
        graph().contexts("PAP")
    assert graph().contexts("AP") == ()


# --- construction -----------------------------------------------------------------------------------------------------------


def test_relations_go_both_ways_and_repeated_edges_merge():
    made = graph()
    np.testing.assert_array_equal(made.relation("author", "paper").toarray(), AP)
    np.testing.assert_array_equal(made.relation("paper", "author").toarray(), AP.T)
    for values in (np.ones(256, dtype=np.int8), np.array([1.0, -1.0])):  # their sum is 0
        ends = np.zeros(len(values), dtype=int)
        often = sparse.coo_matrix((values, (ends, ends)), shape=(2, 2))
        assert HeteroGraph({"a": 2, "b": 2}, {("a", "b"): often}, "a").relation("a", "b").toarray().tolist() == [[1, 0], [0, 0]]
    below = sparse.csr_matrix(([-2.0], ([0], [1])), shape=(2, 3))  # any value is an edge
    found = HeteroGraph({"a": 2, "b": 3}, {("a", "b"): below}, "a").relation("a", "b")
    assert found.toarray().tolist() == [[0, 1, 0], [0, 0, 0]]
    with pytest.raises(ValueError, match="no relation between author and term; relations: "):
        made.relation("author", "term")
    assert made.num_targets == 9


ENDS = np.array([[0, 1], [0, 2]])


@pytest.mark.parametrize(
    ("counts", "edges", "target", "x", "said"),
    [
        ({"a": 2, "b": 2}, {("a", "b"): ENDS}, "a", {}, "relation a-b: there is no b 2; ids of b run from 0 to 1"),
        ({"a": 2, "b": 3}, {("a", "b"): -ENDS}, "a", {}, "there is no a -1"),
        ({"a": 2}, {("a", "b"): ENDS}, "a", {}, "relation a-b: 'b' is no type; types: a"),
        ({"a": 2, "b": 3}, {("a", "b"): ENDS[0]}, "a", {}, r"edges are whole numbers \[2, E\], got int64 of shape \(2,\)"),
        ({"a": 2, "b": 3}, {("a", "b"): ENDS / 1.0}, "a", {}, "got float64"),
        ({"a": 2, "b": 3}, {("a", "b"): ENDS, ("b", "a"): ENDS[::-1]}, "a", {}, "relation .-. is given both ways"),
        ({"a": 2, "b": 3}, {("a", "b"): ENDS}, "c", {}, "the target 'c' is no type; types: a, b"),
        ({"a": 2, "b": 3}, {("a", "b"): ENDS}, "a", {"c": torch.ones(2, 1)}, "features of 'c', which is no type"),
        ({"a": 2, "b": 3}, {("a", "b"): ENDS}, "a", {"a": torch.ones(3, 1)}, r"shape \(3, 1\), but there are 2 a"),
        ({"a": 2, "b": 3}, {("a", "b"): ENDS}, "a", {"a": torch.ones(2)}, r"features of a are of shape \(2,\)"),
        ({"a": 2, "b": 3}, {("a", "b"): ENDS}, "a", {"a": [["x"], ["y"]]}, "features of a must be a table of numbers"),
        ({"a": 2, "b": 3}, {("a", "b"): ENDS}, "a", {"a": sparse.coo_matrix([[0, np.nan], [1, 1]])}, "1 are not"),
    ],
)
def test_wrong_graphs(counts, edges, target, x, said):
    with pytest.raises(ValueError, match=said):
        HeteroGraph.from_edges(counts, edges, target, x)


@pytest.mark.filterwarnings("ignore:Sparse CS:UserWarning")
def test_features_of_any_kind():
    dense = np.array([[0.0, 2], [1, 0]])
    tensor = torch.from_numpy(dense)
    for x in (
        dense, dense.tolist(), dense.astype(int), tensor.requires_grad_(), tensor.to_sparse(), tensor.to_sparse_csr(), tensor.to_sparse_csc(),
        sparse.coo_matrix(dense), sparse.csc_array(dense), sparse.csr_array(dense), sparse.csr_matrix(dense),
    ):  # fmt: skip
        kept = HeteroGraph.from_edges({"a": 2, "b": 3}, {("a", "b"): ENDS}, "a", {"a": x}).x["a"]
        assert isinstance(kept, torch.Tensor if not hasattr(kept, "indptr") else sparse.csr_matrix)
        values = kept if isinstance(kept, torch.Tensor) else torch.from_numpy(kept.toarray())
        assert (values.dtype, values.requires_grad) == (torch.float32, False)
        assert values.tolist() == dense.tolist()


def test_a_relation_of_another_shape_and_the_callers_matrix():
    given = sparse.csr_matrix(([2.0, 0.0], ([0, 1], [1, 1])), shape=(2, 3))
    made = HeteroGraph({"a": 2, "b": 3}, {("a", "b"): given}, "a")
    np.testing.assert_array_equal(made.relation("a", "b").toarray(), [[0, 1, 0], [0, 0, 0]])
    assert given.nnz == 2
    assert given.data[0] == 2
    with pytest.raises(ValueError, match=r"relation a-b is of shape \(2, 3\), but there are 2 a and 2 b"):
        HeteroGraph({"a": 2, "b": 2}, {("a", "b"): given}, "a")


def test_another_order_of_targets():
    order = RNG.permutation(9)
    features = {"author": torch.arange(9.0)[:, None], "paper": torch.ones(14, 2)}
    made = graph(x=features).reordered(order)
    np.testing.assert_array_equal(made.relation("author", "paper").toarray(), AP[order])
    np.testing.assert_array_equal(made.x["author"][:, 0], order)
    np.testing.assert_array_equal((made.path("APTPA") @ torch.eye(9)).numpy(), dense("APTPA")[order][:, order])
    with pytest.raises(ValueError, match="a permutation of 9 targets is needed"):
        graph().reordered(np.zeros(9, dtype=int))
    cites = HeteroGraph.from_edges({"p": 3}, {("p", "p"): np.array([[0], [1]])}, "p").reordered(np.array([2, 0, 1]))
    assert list(zip(*cites.relation("p", "p").nonzero(), strict=True)) == [(1, 2)]


# --- PyG --------------------------------------------------------------------------------------------------------------------


def test_to_pyg_and_back():
    x = {"author": sparse.random(9, 3, 0.5, format="csr", random_state=0), "paper": torch.randn(14, 2)}
    made = graph(x=x)
    data = made.to_pyg()
    assert data.validate()
    assert set(data.edge_types) >= {("paper", "to", "author"), ("author", "rev_to", "paper")}
    back = HeteroGraph.from_pyg(data, "author")  # the reverse edge types count once
    assert back.counts == made.counts
    assert len(back.relations) == 3
    for ends in made.relations:
        np.testing.assert_array_equal(back.relation(*ends).toarray(), made.relation(*ends).toarray())
    np.testing.assert_array_equal(back.x["author"], x["author"].toarray().astype(np.float32))
    assert back.x["paper"] is not None
    assert "term" not in back.x


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.int64, torch.bool])
def test_features_are_kept_as_float32(kind):
    given = torch.arange(28).reshape(14, 2).to(kind)
    kept = graph(x={"paper": given}).x["paper"]
    assert kept.dtype == torch.float32
    assert torch.equal(kept, given.float())
    pattern = sparse.random(9, 3, 0.5, format="csr", random_state=0)
    assert graph(x={"author": pattern}).x["author"].dtype == np.float32


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_features_must_be_finite(wrong):
    table = torch.ones(14, 2)
    table[3, 1] = wrong
    for given in (table, sparse.csr_matrix(table.numpy())):
        with pytest.raises(ValueError, match="features of paper must be finite numbers; 1 are not"):
            graph(x={"paper": given})


def hetero_data() -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = 2, 3
    data["user", "buys", "item"].edge_index = torch.tensor([[0, 1, 1], [0, 2, 2]])
    return data


def test_edge_types_that_are_no_reverse_of_each_other_are_ambiguous():
    data = hetero_data()
    data["item", "bought_by", "user"].edge_index = torch.tensor([[2, 0], [1, 0]])  # the reverse, in another order, once
    assert HeteroGraph.from_pyg(data, "user").relation("user", "item").nnz == 2
    data["user", "views", "item"].edge_index = torch.tensor([[0], [1]])
    with pytest.raises(ValueError, match="several edge types join user and item; name the ones to take in edge_types"):
        HeteroGraph.from_pyg(data, "user")
    chosen = HeteroGraph.from_pyg(data, "user", [("user", "views", "item")])
    np.testing.assert_array_equal(chosen.relation("user", "item").toarray(), [[0, 1, 0], [0, 0, 0]])
    with pytest.raises(ValueError, match=r"no edge type \('user', 'sees', 'item'\); edge types: "):
        HeteroGraph.from_pyg(data, "user", [("user", "sees", "item")])


def test_edges_within_a_type_come_one_way_or_both():
    data = HeteroData()
    data["p"].num_nodes = 3
    data["p", "cites", "p"].edge_index = torch.tensor([[0, 1], [1, 2]])
    data["p", "cited_by", "p"].edge_index = torch.tensor([[1, 2], [0, 1]])
    made = HeteroGraph.from_pyg(data, "p")
    assert list(zip(*made.relation("p", "p").nonzero(), strict=True)) == [(0, 1), (1, 2)]
    again = HeteroGraph.from_pyg(made.to_pyg(), "p")
    assert (again.relation("p", "p") != made.relation("p", "p")).nnz == 0


@pytest.mark.parametrize("key", ["edge_weight", "edge_attr"])
def test_weights_would_be_lost(key):
    data = hetero_data()
    data["user", "buys", "item"][key] = torch.ones(3)
    with pytest.raises(ValueError, match=rf"{key} of \('user', 'buys', 'item'\) would be lost"):
        HeteroGraph.from_pyg(data, "user")


def test_what_pyg_leaves_open():
    data = hetero_data()
    data["user", "buys", "item"].edge_index[1, 0] = 3
    with pytest.raises(ValueError, match="relation user-item: there is no item 3"):
        HeteroGraph.from_pyg(data, "user")
    data = hetero_data()
    del data["user", "buys", "item"].edge_index
    with pytest.raises(ValueError, match="has no edge_index"):
        HeteroGraph.from_pyg(data, "user", [("user", "buys", "item")])
    data = hetero_data()
    del data["item"].num_nodes
    with pytest.raises(ValueError, match=r"how many item there are is not said; set data\['item'\]\.num_nodes"):
        HeteroGraph.from_pyg(data, "user")
