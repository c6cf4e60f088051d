"""MEOW, AdaMEOW and HeCo: first losses against dense formulas written out in float64, and what is drawn for a batch."""

import numpy as np
import pytest
import torch
from scipy import sparse
from torch.nn import functional

from graphcl import pretrain
from graphcl.contracts import Targets
from graphcl.data.nodes import NodeData
from graphcl.encoders.projection import parameter_key
from graphcl.hetero import HeteroGraph
from graphcl.ops import Sparse
from graphcl.planted import planted
from graphcl.recipes import adameow, heco, meow
from graphcl.recipes.adameow import AdaMEOW
from graphcl.recipes.heco import HeCo
from graphcl.recipes.meow import MEOW
from graphcl.recipes.metapaths import (
    CoarseFine,
    MetaPaths,
    MetaPathTraining,
    Sources,
    incidence_svd,
    neighbourhood,
    shuffled,
    sources,
)

PLAIN = {"dim": 5, "dropout": 0.0, "temperature": 0.4, "neighbours": (6,)}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dense(op) -> torch.Tensor:
    return torch.from_numpy(op.to_scipy().toarray()).double()


def by_hand(model, inputs: MetaPaths) -> tuple[torch.Tensor, torch.Tensor]:
    """Coarse and fine projections, every matrix dense."""
    views: CoarseFine = model.views
    projection, gcn, attention = views.features, views.encoder, views.attention

    def table(name, x):
        weight = projection.weights[parameter_key(name)].double()
        rows = weight if x is None else (x.double() if isinstance(x, torch.Tensor) else dense(x)) @ weight
        return functional.elu(rows + projection.biases[parameter_key(name)].double())

    def encoded(h, a):
        h = a @ (h @ gcn.weights[0].double())
        h = a @ (torch.where(h > 0, h, 0.25 * h) @ gcn.weights[1].double())
        return (h - h.mean()) / (h.var(unbiased=False) + 1e-5).sqrt()

    def projected(z):
        z = torch.tanh(z @ views.projection.weight.double().T + views.projection.bias.double())
        return z / z.norm(dim=1, keepdim=True)

    own, masked = table("P", inputs.x["P"]), table("P", inputs.masked_x)
    coarse = encoded(own, sum(dense(a) for a in inputs.paths) / len(inputs.paths))
    seen = []
    for number, contexts in enumerate(inputs.contexts):
        (context,) = contexts
        said = (
            dense(context.mean) @ table(context.type, inputs.x[context.type]) @ views.contexts.maps[number][0].weight.double().T
        )
        for h, a in ((own, inputs.paths[number]), (masked, inputs.masked[number])):
            z = encoded(functional.elu(h + said), dense(a))
            seen.append(z / z.norm(dim=1, keepdim=True))
    scores = torch.stack(
        [
            attention.vector[0].double()
            @ torch.tanh(z @ attention.linear.weight.double().T + attention.linear.bias.double()).mean(0)
            for z in seen
        ]
    )
    fine = sum(share * z for share, z in zip(scores.softmax(0), seen, strict=True))
    return projected(coarse), projected(fine)


def started(module, **changes):
    config = module.Config(**{**PLAIN, **changes})
    return pretrain.start(module, config, planted(), 0, "cpu")


@pytest.mark.parametrize("stand_in", ["table", "svd"])
def test_meows_contrast_is_the_dense_formula(stand_in):
    phase = started(meow, clusters=(3, 5), stand_in=stand_in)
    assert (phase.inputs.x["A"] is None) == (stand_in == "table")
    assert isinstance(phase.model, MEOW)
    terms = phase.model.losses(phase.inputs, Targets(), rng(1))
    q, p = by_hand(phase.model, phase.inputs)
    # the centroids that the step left behind say who is whose
    ids = [(p @ c.double().T).argmax(1) for c in phase.model.centroids]
    gamma = sum((a[:, None] != a[None]).double() for a in ids)
    similar = (q @ p.T / 0.4).exp()
    expected = -(similar.diagonal() / (gamma * similar).sum(1)).log().mean()
    assert float(terms["contrast"].detach()) == pytest.approx(float(expected.detach()), rel=1e-4)


def test_what_stands_for_features_is_an_svd_of_each_relation():
    """Their products are the singular vectors' whatever the signs: ``u s`` of the best rank-4 approximation."""
    graph = planted().graph
    found = incidence_svd(graph, "P", 4).double()
    assert found.shape == (48, 8)
    for part, other in zip(found.split(4, 1), "AS", strict=True):
        pattern = graph.relation("P", other).toarray().astype(float)
        ends = [np.maximum(pattern.sum(side, keepdims=True), 1) for side in (0, 1)]
        u, s, _ = np.linalg.svd(pattern / (ends[0] * ends[1]) ** 0.25)
        rows = torch.nn.functional.normalize(torch.from_numpy(u[:, :4] * s[:4]), eps=1e-7)
        torch.testing.assert_close(part @ part.T, rows @ rows.T, rtol=0, atol=1e-5)
    assert incidence_svd(graph, "S", 64).shape == (6, 5)  # six subjects


def test_a_type_beside_one_node_only():
    graph = HeteroGraph.from_edges({"P": 4, "C": 1}, {("P", "C"): np.array([[0, 1, 3], [0, 0, 0]])}, "P")
    assert torch.equal(incidence_svd(graph, "P", 4), torch.ones(4, 1))


def test_a_type_beside_another_without_edges():
    edges = {("P", "C"): np.array([[0, 1, 3], [0, 0, 1]]), ("P", "S"): np.empty((2, 0), dtype=np.int64)}
    both = HeteroGraph.from_edges({"P": 4, "C": 2, "S": 3}, edges, "P")
    without = HeteroGraph.from_edges({"P": 4, "C": 2}, {("P", "C"): edges["P", "C"]}, "P")
    assert torch.equal(incidence_svd(both, "P", 4), incidence_svd(without, "P", 4))


def test_what_can_stand_in():
    with pytest.raises(ValueError, match="stand_in must be table or svd, got 'eye'"):
        started(meow, stand_in="eye")


def test_meows_prototypes_are_weighed():
    terms = [
        float(
            started(meow, clusters=(3, 5), prototype_weight=w)
            .model.losses(started(meow).inputs, Targets(), rng(1))["prototypes"]
            .detach()
        )
        for w in (1.0, 0.5)
    ]
    assert terms[1] == pytest.approx(terms[0] / 2, rel=1e-5)


@pytest.mark.parametrize("mode", ["joint", "normalised"])
def test_adameows_contrast_is_the_dense_formula(mode):
    phase = started(adameow, projected=4, hidden=3, mode=mode)
    assert isinstance(phase.model, AdaMEOW)
    terms = phase.model.losses(phase.inputs, Targets(), rng(1))
    candidates, anchors = by_hand(phase.model, phase.inputs)
    first, second = (part.double() for part in (phase.model.contrast.inner, phase.model.contrast.outer))
    gamma = torch.sigmoid(second(torch.tanh(first(anchors[:, None] + candidates[None]))))[..., 0]
    if mode == "normalised":
        gamma = gamma / gamma.mean(1, keepdim=True)
    similar = (anchors @ candidates.T / 0.4).exp()
    expected = -(similar.diagonal() / (gamma * similar).sum(1)).log().mean()
    assert float(terms["contrast"].detach()) == pytest.approx(float(expected.detach()), rel=1e-4)


def test_hecos_losses_are_the_dense_formula():
    config = heco.Config(
        dim=5, temperature=0.5, feature_dropout=0.0, attention_dropout=0.0, samples={"A": 2, "S": 1}, num_positives=3, balance=0.3
    )
    phase = pretrain.start(heco, config, planted(), 0, "cpu")
    model, inputs = phase.model, phase.inputs
    assert isinstance(model, HeCo)
    drawn = []
    of = model.schema.forward
    model.schema.forward = lambda own, tables, neighbours: drawn.append((own, tables, neighbours)) or of(own, tables, neighbours)
    terms = model.losses(inputs, Targets(), rng(1))
    own, tables, neighbours = drawn[0]
    assert {name: tuple(rows.shape) for name, rows in neighbours.items()} == {"A": (48, 2), "S": (48, 1)}
    by_path = []
    for op, linear, bias in zip(inputs.paths, model.maps, model.biases, strict=True):
        z = dense(op).float() @ (own @ linear.weight.T) + bias
        by_path.append(torch.where(z > 0, z, 0.25 * z))
    sides = [model.projection(side).double() for side in (model.semantic(by_path), of(own, tables, neighbours))]
    u, v = (functional.normalize(side, dim=1) for side in sides)  # the isolated paper's rows are zero
    positives = inputs.positives.to_dense().double()
    assert (positives.diagonal() == 1).all()
    for name, similar, share in (("metapath", (u @ v.T / 0.5).exp(), 0.3), ("schema", (v @ u.T / 0.5).exp(), 0.7)):
        expected = share * -((similar * positives).sum(1) / similar.sum(1)).log().mean()
        assert float(terms[name].detach()) == pytest.approx(float(expected.detach()), rel=1e-4)


def test_released_positives_are_taken_where_they_are_shipped():
    from dataclasses import replace

    shipped = sparse.csr_matrix((np.ones(2), ([0, 5], [3, 5])), shape=(48, 48))
    data = replace(planted(), positives=shipped)
    found = heco.inputs(heco.Config(released=True), data, rng=rng()).positives.to_dense().numpy()
    assert (found == shipped.toarray()).all()
    assert heco.inputs(heco.Config(), data, rng=rng()).positives.to_dense().diagonal().all()


def test_a_batch_that_draws_everything_is_the_whole():
    """With as many draws as neighbours, and rows that are normalised by themselves. The attention's mean is over the batch, so all are in."""
    for module in (meow, adameow):
        phase = started(module, norm="row", batch_size=48, fanouts=(200, 200), neighbours=(4,))
        rows = torch.randperm(48, generator=rng())
        whole = phase.model.views(phase.inputs, Targets(), rng(1))
        some = phase.model.views(phase.inputs, Targets(rows), rng(1))
        for a, b in zip(whole, some, strict=True):
            torch.testing.assert_close(a[rows], b, atol=1e-5, rtol=1e-4)


def test_a_neighbourhood_shrinks_from_layer_to_layer():
    op = Sparse.from_scipy(sparse.random(40, 40, 0.3, format="csr", random_state=0))
    reached, (first, last) = neighbourhood([op, op], torch.tensor([3, 9]), (4, 2), rng())
    assert last.shape[0] == 2
    assert first.shape == (last.shape[1], len(reached))
    assert last.shape[1] <= 2 * 4
    x = torch.randn(40, 3, generator=rng())
    assert (last @ (first @ x[reached])).shape == (2, 3)


def test_targets_are_shuffled_and_each_comes_once():
    batches = shuffled(10, 48)
    rows = torch.cat([batch.rows for batch in batches(rng())])
    assert len(rows) == 40
    assert len(rows.unique()) == 40
    assert (rows != rows.sort().values).any()
    assert (torch.cat([b.rows for b in batches(rng())]) == rows).all()


def test_masks_are_static_or_drawn_for_each_epoch():
    for masks in ("static", "epoch"):
        phase = started(meow, masks=masks, edge_mask=(0.5,), feature_mask=0.5)
        views = phase.model.views
        seen = []
        for epoch in (1, 2):
            views.train()
            views.start_epoch(phase.inputs, epoch, rng(epoch))
            seen.append(dense(views.masks(phase.inputs)[1][0]))
        assert bool((seen[0] == seen[1]).all()) == (masks == "static")
        views.eval()
        assert views.masks(phase.inputs)[1] is phase.inputs.masked  # the embedding is made with the first


def test_sources_hold_rows_that_sum_to_one_and_pruned_graphs():
    found = sources(planted(), (4,), "random", rng())
    assert isinstance(found, Sources)
    sums = np.asarray(found.features["P"].sum(axis=1)).ravel()
    np.testing.assert_allclose(sums, 1, rtol=1e-6)
    assert [g.getnnz(axis=1).max() for g in found.graphs] == [4, 4]
    assert MetaPathTraining().norm == "matrix"


@pytest.mark.parametrize("recipe", [meow, adameow, heco])
def test_weight_decay_is_the_setting(recipe):
    config = recipe.Config(**{key: value for key, value in PLAIN.items() if hasattr(recipe.Config, key)}, weight_decay=0.3)
    data = planted()
    model = recipe.build(config, data, recipe.inputs(config, data, rng=rng()), rng=rng())
    assert {group["weight_decay"] for group in recipe.step(config, model).optimiser.param_groups} == {0.3}


def test_heco_draws_neighbours_of_each_type_apart():
    edges = np.stack([np.repeat(np.arange(40), 10), np.tile(np.arange(10), 40)])  # the same of both types
    graph = HeteroGraph.from_edges({"P": 40, "A": 10, "S": 10}, {("P", "A"): edges, ("P", "S"): edges}, "P")
    phase = pretrain.start(heco, heco.Config(dim=4, num_samples=3), NodeData.from_graph(graph, ["PAP"]), 0, "cpu")
    drawn, of = [], phase.model.schema.forward
    phase.model.schema.forward = lambda own, tables, neighbours: drawn.append(neighbours) or of(own, tables, neighbours)
    phase.model.losses(phase.inputs, Targets(), rng(1))
    assert (drawn[0]["A"] == drawn[0]["S"]).double().mean() < 0.3  # a tenth by chance


def test_hecos_embedding_is_the_meta_path_view_before_projection_and_without_dropout():
    phase = pretrain.start(heco, heco.Config(dim=5), planted(), 0, "cpu")
    model, inputs = phase.model.train(), phase.inputs
    found = model.embed(inputs)
    assert model.training
    own = model.eval().features("P", inputs.x)
    views = []
    for op, linear, bias in zip(inputs.paths, model.maps, model.biases, strict=True):
        z = dense(op).float() @ (own @ linear.weight.T) + bias
        views.append(torch.where(z > 0, z, 0.25 * z))
    a, w = model.semantic.vector[0], model.semantic.linear
    shares = torch.stack([a @ torch.tanh(view @ w.weight.T + w.bias).mean(0) for view in views]).softmax(0)
    torch.testing.assert_close(found, sum(share * view for share, view in zip(shares, views, strict=True)))


def test_meows_clusters_go_on_from_the_last_steps(monkeypatch):
    """From where the centroids were, in 20 moves of all targets and in 2 of a batch; a cluster for each 10 rows of a batch at most."""
    told, inner = [], meow.kmeans

    def heard(points, k, *, start, max_iterations, **more):
        told.append((k, max_iterations, None if start is None else start.clone()))
        return inner(points, k, start=start, max_iterations=max_iterations, **more)

    monkeypatch.setattr(meow, "kmeans", heard)
    phase = started(meow, clusters=(3, 500), norm="row", batch_size=40)
    phase.model.losses(phase.inputs, Targets(), rng(1))
    kept = [centroids.detach().clone() for centroids in phase.model.centroids]
    phase.model.losses(phase.inputs, Targets(torch.arange(40)), rng(1))
    assert [each[:2] for each in told] == [(3, 20), (4, 20), (3, 2), (4, 2)]
    assert [start for *_, start in told[:2]] == [None, None]
    assert all(start.equal(before) for (*_, start), before in zip(told[2:], kept, strict=True))
    assert [len(centroids) for centroids in started(meow, clusters=(3, 500)).model.centroids] == [3, 48]


def test_densities_are_the_releases_where_asked():
    found = [started(meow, released=released).model.prototypes.density for released in (False, True)]
    assert found == ["distance", "released"]


def test_a_masked_twin_may_be_spared_dropout():
    told = []
    for masked in (True, False):
        phase = started(meow, dropout=0.4, masked_dropout=masked)
        features, x = phase.model.views.features, phase.inputs.masked_x
        inner = features.forward
        features.forward = lambda name, given, x=x, inner=inner, **how: (
            told.append((given is x, how.get("drops", True))) or inner(name, given, **how)
        )
        phase.model.losses(phase.inputs, Targets(), rng(1))
    assert [drops for twin, drops in told if twin] == [True, False]
    assert all(drops for twin, drops in told if not twin)
