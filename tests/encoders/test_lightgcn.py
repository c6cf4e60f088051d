"""LightGCN's propagation against powers of a dense matrix."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import sparse

from graphcl.encoders import LightGCN
from graphcl.graph import bipartite
from graphcl.perturb.edges import random_walk
from graphcl.perturb.noise import SignNoise
from graphcl.testing import check_encoder, tiny_graph, tiny_interactions, undisturbed

SIZES = {"user": 5, "item": 6}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def encoder(num_layers: int = 3, **options) -> LightGCN:
    return LightGCN(SIZES, 4, num_layers, rng=generator(), **options).double()


def dense(op) -> torch.Tensor:
    return op.left.double()[:, None] * torch.from_numpy(op.to_scipy().toarray() != 0) * op.right.double()[None]


@pytest.mark.parametrize("num_layers", [0, 1, 3])
def test_layers_are_powers_of_the_normalised_matrix(num_layers):
    model, graph = encoder(num_layers), tiny_graph(torch.float64)
    layers = model(graph)
    assert len(layers) == num_layers + 1
    power = torch.eye(11, dtype=torch.float64)
    for number in range(num_layers + 1):
        torch.testing.assert_close(layers[number], power @ model.embedding, rtol=1e-12, atol=1e-14)
        power = dense(graph.ops[0]) @ power
    assert layers[0] is model.embedding
    if num_layers:
        assert layers[num_layers][4].tolist() == [0, 0, 0, 0]  # nobody sends to an isolated node


@pytest.mark.parametrize("options", [{}, {"unit": True}, {"init": 0.3}])
def test_contract(options):
    check_encoder(encoder(3, **options))


def test_unequal_exponents_and_unit_rows():
    """LightGCN++: e_u(l+1) = sum_i d_u^-0.6 d_i^0.1 e_i(l) / |e_i(l)|."""
    graph = bipartite(tiny_interactions(), exponents=(0.6, -0.1), dtype=torch.float64)
    model = encoder(2, unit=True)
    degrees = graph.adj.degrees().double()
    h = model.embedding
    for number in (1, 2):
        expected = torch.zeros_like(h)
        for a, b in graph.pairs.T.tolist():
            for to, source in ((a, b), (b, a)):
                expected[to] += degrees[to] ** -0.6 * degrees[source] ** 0.1 * h[source] / h[source].square().sum().sqrt()
        torch.testing.assert_close(model(graph)[number], expected, rtol=1e-6, atol=1e-7)  # scales are float32
        h = expected.detach()


def test_each_layer_has_its_own_operator():
    graph = random_walk(tiny_graph(torch.float64), 0.4, 2, generator())
    model = encoder(2)
    first = dense(graph.ops[0]) @ model.embedding
    torch.testing.assert_close(model(graph)[2], dense(graph.ops[1]) @ first, rtol=1e-12, atol=1e-14)
    assert not torch.equal(dense(graph.ops[0]), dense(graph.ops[1]))


def test_noise_needs_a_generator():
    """It drew the same noise in every layer and every call."""
    with pytest.raises(AssertionError):
        encoder(2)(tiny_graph(torch.float64), perturb=SignNoise(0.2))


def test_the_perturbed_output_is_what_the_next_layer_propagates():
    model, graph = encoder(3), tiny_graph(torch.float64)
    layers = model(graph, rng=generator(4), perturb=SignNoise(0.2))
    known = graph.adj.degrees() > 0
    for number in range(3):
        moved = layers[number + 1] - dense(graph.ops[0]) @ layers[number]
        np.testing.assert_allclose(moved[known].norm(dim=1).detach(), 0.2, rtol=1e-9)
    moves = [layers[n + 1] - dense(graph.ops[0]) @ layers[n] for n in range(3)]
    assert not torch.allclose(moves[0].abs(), moves[1].abs())  # fresh noise for each layer


def test_the_last_layer_is_made_for_the_rows_that_are_read():
    model, graph, rows = encoder(2), tiny_graph(torch.float64), torch.tensor([9, 0, 4, 0])
    for perturb in (None, SignNoise(0.2)):
        few = model(graph, rng=generator(1), perturb=perturb).at(rows)
        whole = model(graph, rng=generator(1), perturb=perturb)
        for number in range(3):
            torch.testing.assert_close(few[number], whole[number][rows], rtol=1e-12, atol=1e-14)
        weight = torch.arange(16.0).view(4, 4).double()
        slow, fast = (torch.autograd.grad((x * weight).sum(), model.embedding)[0] for x in (whole[2][rows], few[2]))
        torch.testing.assert_close(fast, slow, rtol=1e-6, atol=1e-8)  # scales are float32, and multiplied in another order


def test_gradient():
    graph = tiny_graph(torch.float64)
    model = encoder(2)

    def final(table):
        return torch.func.functional_call(model, {"embedding": table}, (graph,))[2]

    assert torch.autograd.gradcheck(final, (model.embedding,), fast_mode=True)


def test_rows_of_a_subgraph_are_found_by_their_global_ids():
    ids = torch.tensor([7, 1, 3])
    graph = dataclasses.replace(tiny_graph(torch.float64), ids=ids)
    model = encoder(0)
    assert torch.equal(model(graph)[0], model.embedding[ids])


def test_xavier_bound_is_that_of_each_kind():
    model = LightGCN({"user": 3000, "item": 50}, 16, 1, rng=generator())
    users, items = model.embedding.detach().split([3000, 50])
    for block, rows in ((users, 3000), (items, 50)):
        bound = (6 / (rows + 16)) ** 0.5
        assert block.abs().max() <= bound
        assert block.abs().max() > 0.98 * bound
        assert abs(float(block.mean())) < 5 * bound / (3 * block.numel()) ** 0.5
    assert users.abs().max() < items.abs().max() / 3


def test_normal_with_the_standard_deviation_that_is_given():
    table = LightGCN({"user": 3000, "item": 500}, 16, 1, init=0.1, rng=generator()).embedding.detach()
    n = table.numel()
    assert abs(float(table.mean())) < 5 * 0.1 / n**0.5
    assert abs(float(table.std()) - 0.1) < 5 * 0.1 / (2 * n) ** 0.5
    assert 0.3 < float(table.abs().max()) < 0.6


def test_the_table_comes_from_the_generator_alone():
    with undisturbed():
        one, same, other = (LightGCN(SIZES, 4, 1, rng=generator(seed)).embedding for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.dtype == torch.float32
    assert one.shape == (11, 4)


@pytest.mark.parametrize("options", [{}, {"unit": True}])
def test_a_known_users_history_folds_in_to_what_its_items_send(options):
    """From the user's own history, layers 1..L are its own; only the table's row is missing."""
    graph = bipartite(tiny_interactions(), exponents=(0.6, -0.1), dtype=torch.float64)
    model = encoder(3, **options)
    layers = model(graph)
    histories = tiny_interactions().matrix[[3, 1, 4]]
    found = model.fold_in(graph, layers, histories)
    assert len(found) == 4
    assert not found[0].any()
    for number in (1, 2, 3):
        torch.testing.assert_close(found[number], layers[number][[3, 1, 4]], rtol=1e-6, atol=1e-8)
    counted = sparse.csr_matrix(([3.0, 1.0], ([0, 0], [2, 3])), shape=(1, 6))  # how often does not matter
    pattern = sparse.csr_matrix(([1.0, 1.0], ([0, 0], [2, 3])), shape=(1, 6))
    torch.testing.assert_close(model.fold_in(graph, layers, counted)[3], model.fold_in(graph, layers, pattern)[3])


@pytest.mark.parametrize(("dim", "num_layers"), [(0, 1), (4, -1)])
def test_sizes_outside_their_range_are_refused(dim, num_layers):
    with pytest.raises(ValueError, match="num_layers must be 0 or more"):
        LightGCN(SIZES, dim, num_layers, rng=generator())


def test_a_graph_of_other_nodes_is_refused():
    model = LightGCN({"user": 5, "item": 7}, 4, 1, rng=generator())
    with pytest.raises(ValueError, match="11 rows"):
        _ = model(tiny_graph(torch.float64))[1]
