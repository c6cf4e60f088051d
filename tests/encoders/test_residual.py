"""Residual propagation against the formula."""

import pytest
import torch

from graphcl.encoders import ResidualGCN
from graphcl.testing import check_encoder, tiny_graph, tiny_interactions
from tests.encoders.test_lightgcn import SIZES, dense, generator


def test_each_layer_adds_what_the_neighbours_send():
    graph = tiny_graph(torch.float64)
    model = ResidualGCN(SIZES, 4, 2, slope=0.25, rng=generator()).double()
    layers = model(graph)
    h = model.embedding
    for number in range(3):
        torch.testing.assert_close(layers[number], h, rtol=1e-12, atol=1e-14)
        sent = dense(graph.ops[0]) @ h
        h = h + torch.where(sent > 0, sent, 0.25 * sent)


def test_contract():
    check_encoder(ResidualGCN(SIZES, 4, 2, rng=generator()).double())


def test_a_known_users_history_folds_in_to_the_sum_of_what_its_items_send():
    graph = tiny_graph(torch.float64)
    model = ResidualGCN(SIZES, 4, 2, rng=generator()).double()
    layers = model(graph)
    found = model.fold_in(graph, layers, tiny_interactions().matrix[[3, 0]])
    for number in range(3):
        torch.testing.assert_close(found[number], layers[number][[3, 0]] - layers[0][[3, 0]], rtol=1e-6, atol=1e-8)


def test_sizes_outside_their_range_are_refused():
    with pytest.raises(ValueError, match="dim 1 or more"):
        ResidualGCN(SIZES, 0, 1, rng=generator())
