"""PamC, SCGC and the form with sizes: every term against a dense formula, and what the recipes are built of."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import graphcl
from graphcl.encoders.mlp import MLP
from graphcl.graph import Graph
from graphcl.objectives.cluster_pairs import cluster_pairs
from graphcl.objectives.partition import Partition
from graphcl.objectives.self_training import self_training, soft_clusters, target
from graphcl.ops import Sparse
from graphcl.planted import planted_attributed
from graphcl.recipes import clustered, pamc, pamc_sized, scgc
from graphcl.recipes.clustered import Clusterer, Neighbourhoods, NodeClustering, contrast, inputs, reconstruct, smoothed
from graphcl.views import neighbours
from graphcl.views.neighbours import influence

RECIPES = {"pamc": pamc, "scgc": scgc, "pamc_sized": pamc_sized}
IDS = torch.tensor([0, 1, 1, 0, 3, 3, 0, 1])  # cluster 2 has no member
GRAPH = Graph.from_pairs(np.array([0, 0, 1, 3, 4]), np.array([1, 2, 2, 4, 5]), 8)  # 6 and 7 are isolated


def table(seed=0):
    return torch.randn(8, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).requires_grad_()


def gamma(hops):
    loops = GRAPH.adj.to_scipy().toarray().astype(np.float64) + np.eye(8)
    walk = loops / loops.sum(1, keepdims=True)
    return sum(np.linalg.matrix_power(walk, r) for r in range(1, hops + 1))


@pytest.mark.parametrize("hops", [1, 2, 3])
def test_influence(hops):
    assert np.allclose(influence(GRAPH, hops).toarray(), gamma(hops), atol=1e-6)


def test_powers_are_cut_to_four_times_the_limit():
    first, second = np.triu(np.random.default_rng(0).random((30, 30)) < 0.25, 1).nonzero()
    graph = Graph.from_pairs(first, second, 30)
    loops = graph.adj.to_scipy().toarray() + np.eye(30)

    def largest(rows, k):
        return np.stack([np.where(np.isin(np.arange(30), sorted(range(30), key=lambda j: (-r[j], j))[:k]), r, 0) for r in rows])

    power = total = walk = loops / loops.sum(1, keepdims=True)
    for _ in range(2):
        power = largest(power @ walk, 8)
        total = total + power
    want = largest(total, 2)
    np.testing.assert_allclose(influence(graph, 3, 2).toarray(), want * 3 / want.sum(1, keepdims=True), rtol=1e-5)


def test_influence_is_cut_to_the_largest_and_keeps_its_sum():
    cut = influence(GRAPH, 3, 2)
    full = gamma(3)
    assert np.diff(cut.indptr).max() == 2
    assert np.allclose(cut.sum(1), 3)
    for row in range(8):
        chosen = cut[row].indices
        assert full[row][chosen].min() >= np.delete(full[row], chosen).max() - 1e-9
    with pytest.raises(ValueError, match="hops and limit must be 1 or more"):
        influence(GRAPH, 0)


def test_influence_of_a_hub_is_cut_block_by_block(monkeypatch):
    """Powers were formed whole before they were cut: 300 neighbours of one node reach each other, 90,000 entries."""
    leaves, limit = 300, 3
    star = Graph.from_pairs(np.zeros(leaves, dtype=int), np.arange(1, leaves + 1), leaves + 1)
    whole = influence(star, 3, limit)
    held, cut = [], neighbours._cut
    monkeypatch.setattr(neighbours, "_cut", lambda matrix, limit: held.append(matrix.nnz) or cut(matrix, limit))
    monkeypatch.setattr(neighbours, "_BLOCK_ENTRIES", 2000)
    blocks = influence(star, 3, limit)
    assert (blocks != whole).nnz == 0
    assert len(held) > 40
    assert max(held) <= 2000 + 4 * limit * leaves


def cosine(a, b):
    return (a @ b) / (a.norm() * b.norm())


def slow_contrast(z, weights, t, negatives):
    n = len(z)
    s = [[torch.zeros((), dtype=torch.float64) if i == j else cosine(z[i], z[j]) / t for j in range(n)] for i in range(n)]
    near = [
        torch.stack([math.log(weights[i, j]) + s[i][j] for j in range(n) if weights[i, j] > 0]).logsumexp(0) for i in range(n)
    ]
    if negatives == "pairs":
        sums = [z[c == IDS].sum(0) for c in (0, 1, 3)]
        rows = [
            torch.stack([torch.zeros((), dtype=torch.float64) if a is b else cosine(a, b) / t for b in sums]).logsumexp(0)
            for a in sums
        ]
        return sum(rows) / 3 - sum(near) / n
    far = []
    for i in range(n):
        if negatives == "exact":
            terms = s[i]
        else:
            unit = z / z.norm(dim=1, keepdim=True)
            terms = [torch.zeros((), dtype=torch.float64)]
            terms += [math.log((c == IDS).sum()) + unit[i] @ unit[c == IDS].mean(0) / t for c in (0, 1, 3) if c != IDS[i]]
        far.append(torch.stack(terms).logsumexp(0))
    return sum(f - p for f, p in zip(far, near, strict=True)) / n


@pytest.mark.parametrize("negatives", ["pairs", "exact", "clusters"])
@pytest.mark.parametrize("t", [0.3, 2.0])
def test_contrast(negatives, t):
    z, weights = table(), gamma(2)
    positives = torch.from_numpy(weights).to_sparse_csr()
    got, expected = contrast(z, positives, Partition(IDS, 4), t, negatives), slow_contrast(z, weights, t, negatives)
    assert_close(got, expected, rtol=1e-10, atol=1e-12)
    assert_close(torch.autograd.grad(got, z)[0], torch.autograd.grad(expected, z)[0], rtol=1e-8, atol=1e-10)


def test_isolated_nodes_have_no_positive_gradient_and_zero_vectors_no_nan():
    z = table()
    positives = torch.from_numpy(gamma(1)).to_sparse_csr()
    only_near = contrast(
        z, positives, Partition(torch.zeros(8, dtype=torch.int64), 1), 1.0, "pairs"
    )  # one cluster: its term is constant
    assert not torch.autograd.grad(only_near, z)[0][6:].any()
    with torch.no_grad():
        z[2] = 0
    for negatives in ("pairs", "exact", "clusters"):
        loss = contrast(z, positives, Partition(IDS, 4), 0.01, negatives)
        assert loss.isfinite()
        assert torch.autograd.grad(loss, z)[0].isfinite().all()


def test_cluster_pairs_push_no_two_rows_of_a_cluster_apart():
    z = table()
    gradient = torch.autograd.grad(cluster_pairs(z, Partition(IDS, 4), 0.5), z)[0]
    for c in (0, 1, 3):
        rows = gradient[c == IDS]
        assert_close(rows, rows[:1].expand_as(rows))


def test_self_training():
    z, centres = table(), table(1)[:3].detach().requires_grad_()
    q = torch.stack([torch.stack([1 / (1 + (row - c).square().sum()) for c in centres]) for row in z])
    q = q / q.sum(1, keepdim=True)
    assert_close(soft_clusters(z, centres), q, rtol=1e-10, atol=0)
    f = q.detach().sum(0)
    p = q.detach() ** 2 / f
    p = p / p.sum(1, keepdim=True)
    assert_close(target(q), p)
    expected = (p * (p / q).log()).sum() / 8
    got = self_training(soft_clusters(z, centres))
    assert_close(got, expected, rtol=1e-10, atol=0)
    for a, b in zip(torch.autograd.grad(got, (z, centres)), torch.autograd.grad(expected, (z, centres)), strict=True):
        assert_close(a, b, rtol=1e-8, atol=1e-12)


def test_smoothed_features():
    data = planted_attributed()
    x = data.x.toarray().astype(np.float64)
    weighed = x * np.log(len(x) / np.maximum((x != 0).sum(0), 1))
    weighed /= np.maximum(np.linalg.norm(weighed, axis=1, keepdims=True), 1e-12)
    u, s, _ = np.linalg.svd(weighed, full_matrices=False)
    loops = data.graph.adj.to_scipy().toarray() + np.eye(len(x))
    root = loops.sum(1) ** -0.5
    h = np.linalg.matrix_power(root[:, None] * loops * root, 2) @ (u[:, :5] * s[:5])
    h /= np.linalg.norm(h, axis=1, keepdims=True)
    got = smoothed(data, 5, 2).double().numpy()
    assert np.allclose(got @ got.T, h @ h.T, atol=1e-4)  # up to the signs of singular vectors


def test_features_that_inverse_frequencies_erase():
    data = planted_attributed()
    full = replace(data, x=torch.rand(len(data.labels), 4) + 0.1)
    with pytest.raises(ValueError, match="no feature is 0 for any node"):
        smoothed(full, 2, 1)
    assert smoothed(full, 2, 1, tfidf=False).isfinite().all()


@pytest.mark.parametrize("name", RECIPES)
def test_losses_of_a_recipe(name):
    data = planted_attributed()
    config = RECIPES[name].Config(dim=4, layers=(6,), pretrain_epochs=1, weight=0.7, self_weight=0.3, temperature=0.5, hops=2)
    assert isinstance(config, NodeClustering)
    rng = torch.Generator().manual_seed(0)
    prepared = RECIPES[name].inputs(config, data, rng=rng)
    assert isinstance(prepared, Neighbourhoods)
    model = RECIPES[name].build(config, data, prepared, rng=rng)
    assert isinstance(model, Clusterer)
    terms = model.losses(prepared, None, rng)
    z = model.embed(prepared)
    q = soft_clusters(z, model.centres)
    negatives = {"pamc": "pairs", "scgc": "exact", "pamc_sized": "clusters"}[name]
    assert_close(terms["self"], 0.3 * self_training(q))
    assert_close(
        terms["contrast"], 0.7 * contrast(z, prepared.positives, Partition(q.argmax(1), len(model.centres)), 0.5, negatives)
    )
    assert torch.equal(model.clusters(prepared), q.argmax(1))


def test_the_auto_encoder_reads_sparse_features_as_dense_ones():
    data = planted_attributed()
    x = Sparse.from_scipy(data.x)
    found = []
    for features in (x, torch.from_numpy(data.x.toarray())):
        encoder = MLP((x.shape[1], 8, 4), rng=torch.Generator().manual_seed(0))
        reconstruct(encoder, features, pamc.Config(dim=4, layers=(8,), pretrain_epochs=2), torch.Generator().manual_seed(1))
        found.append(encoder(features))
    assert_close(*found, rtol=1e-5, atol=1e-6)


def test_the_auto_encoder_learns_to_reconstruct():
    """After pretraining the encoder's output tells the features better than before, by a linear map."""

    def error(epochs):
        data = planted_attributed()
        config = pamc.Config(dim=6, layers=(16,), pretrain_epochs=epochs, pretrain_rate=1e-2)
        rng = torch.Generator().manual_seed(0)
        prepared = inputs(config, data, rng=rng)
        model = pamc.build(config, data, prepared, rng=rng)
        model.begin(prepared, rng)
        z = model.embed(prepared)
        x = torch.from_numpy(data.x.toarray())
        z = torch.cat([z, torch.ones(len(z), 1)], 1)
        return float((z @ torch.linalg.lstsq(z, x).solution - x).square().mean())

    assert error(40) < 0.9 * error(0)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_runs(name, tmp_path):
    settings = {"dim": 4, "layers": (8,), "pretrain_epochs": 2, "epochs": 4}
    run = graphcl.train(name, planted_attributed(), out=tmp_path / "run", **settings)
    assert set(run.result["metrics"]["test"]) >= {"acc", "nmi", "ari", "f1"}
    assert run.result["selected_on"] is None
    published = graphcl.train(name, planted_attributed(), out=tmp_path / "published", protocol="as-published", **settings)
    assert published.result["metrics"]["test"]["acc"] >= published.result["metrics"]["chosen"]["acc"]


def test_it_is_trained_beforehand_once(tmp_path, monkeypatch):
    """Not again where a run goes on or its model is built anew."""
    data, settings = planted_attributed(), {"dim": 4, "layers": (8,), "pretrain_epochs": 2}
    whole = graphcl.train("pamc", data, out=tmp_path / "whole", epochs=4, **settings)

    def stop(kind, line):
        if kind == "epoch" and line["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        graphcl.train("pamc", data, out=tmp_path / "cut", epochs=4, evaluate_every=1, observe=stop, **settings)
    monkeypatch.setattr(clustered, "reconstruct", None)  # from here on a call is an error
    run = graphcl.train("pamc", data, out=tmp_path / "cut", epochs=4, evaluate_every=1, resume=True, **settings)
    assert np.array_equal(run.embeddings().nodes, whole.embeddings().nodes)
    model, inputs = run.model(data)
    assert np.array_equal(model.embed(inputs).numpy(), run.embeddings().nodes)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"features": "some"}, "must be one of raw, smoothed"),
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"weight": -1.0}, "'weight' must be 0 or more, got -1.0"),
        ({"self_weight": -1.0}, "'self_weight' must be 0 or more"),
        ({"pretrain_epochs": -1}, "'pretrain_epochs' must be 0 or more"),
        ({"layers": ("a",)}, "'layers' needs whole numbers of 1 or more"),
    ],
)
def test_bad_settings(settings, told, tmp_path):
    with pytest.raises(ValueError, match=told):
        graphcl.train("pamc", planted_attributed(), out=tmp_path / "run", **{"layers": (4,), "pretrain_epochs": 0, **settings})
    assert not (tmp_path / "run").exists()


def test_presets_are_the_releases():
    acm = pamc.PRESETS["attributed/acm"]
    assert (acm["weight"], acm["self_weight"], acm["hops"], 1 / acm["temperature"]) == (0.5, 0.5, 1, 0.5)
    citeseer = scgc.PRESETS["attributed/citeseer"]
    assert (citeseer["weight"], citeseer["self_weight"], citeseer["learning_rate"], 1 / citeseer["temperature"]) == (
        1,
        0.1,
        1e-4,
        0.25,
    )
    assert (pamc.Config().layers, pamc.Config().dim, pamc.Config().epochs, pamc.Config().pretrain_epochs) == (
        (500, 500, 2000),
        10,
        200,
        30,
    )
