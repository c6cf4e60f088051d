"""Recipes with other negatives than all keys: what is built, trained, reported and kept."""

import json

import pytest
import torch

import graphcl
from graphcl.communities import communities
from graphcl.objectives import AllKeys, Bank, Clusters, ClusterSampled, InBatch, Sampled
from graphcl.ops import sparse
from graphcl.planted import planted
from graphcl.recipes import lightgcl, meow, sgl
from graphcl.recipes.denominator import Denominator, strategy
from graphcl.testing import checkerboard, tiny_graph
from tests import dense

KINDS = {
    "exact": AllKeys,
    "batch": InBatch,
    "sampled": Sampled,
    "clusters": Clusters,
    "cluster_sampled": ClusterSampled,
    "bank": Bank,
}


@pytest.mark.parametrize("kind", KINDS)
def test_strategies(kind):
    made = strategy(
        Denominator(negatives=kind, cluster_order="2", own_cluster="drop", probe=3, cluster_gradient="stop"),
        tiny_graph(),
        4,
        dense.generator(0),
    )
    assert type(made) is KINDS[kind]
    if kind == "clusters":
        assert (made.order, made.own_cluster, made.probe, made.gradient) == (2, "drop", 3, "stop")


def test_unknown():
    with pytest.raises(ValueError, match="negatives must be one of exact, batch"):
        strategy(Denominator(negatives="some"), tiny_graph(), 4, dense.generator(0))
    with pytest.raises(ValueError, match="clusters_by must be one of kmeans, communities, got 'comunities'"):
        strategy(Denominator(negatives="clusters", clusters_by="comunities"), tiny_graph(), 4, dense.generator(0))


def test_a_setting_that_is_not_read_is_told(caplog):
    strategy(Denominator(negatives="sampled", num_negatives=7), tiny_graph(), 4, dense.generator(0))
    assert not caplog.messages
    strategy(Denominator(num_clusters=7, probe=2), tiny_graph(), 4, dense.generator(0))
    assert caplog.messages == ["num_clusters, probe: not read with negatives 'exact'"]
    caplog.clear()
    found = Denominator(negatives="clusters", clusters_by="communities", num_clusters=2, cluster_every=7)
    strategy(found, tiny_graph(), 4, dense.generator(0))
    assert caplog.messages == ["num_clusters, cluster_every: not read with negatives 'clusters' and clusters_by 'communities'"]


@pytest.mark.parametrize("recipe", [sgl, lightgcl])
def test_keys_that_are_drawn_cost_no_propagation_more_than_all_keys(recipe, monkeypatch):
    """Users and items that were drawn were propagated anew, each kind by itself: ten products a step of SGL where all keys need seven."""
    forward, done = sparse._Product.forward, []
    monkeypatch.setattr(sparse._Product, "forward", staticmethod(lambda *given: done.append(1) or forward(*given)))

    def products(kind):
        settings = {"rank": 2} if recipe is lightgcl else {}
        config = recipe.Config(dim=dense.WIDTH, negatives=kind, num_negatives=7, **settings)
        model, rng = recipe.build(config, dense.log(), rng=dense.generator(0)), dense.generator(3)
        for part in model.modules():
            if isinstance(part, graphcl.contracts.Part):
                part.start_epoch(dense.inputs(), 1, rng)
        if kind != "exact":  # a gap is measured once an epoch
            next(part for part in model.modules() if isinstance(part, KINDS[kind])).gaps = dict.fromkeys(("user", "item"))
        del done[:]
        model.losses(dense.inputs(), dense.BATCH, dense.generator(4))
        return len(done)

    counts = {kind: products(kind) for kind in ("exact", "sampled", "bank", "cluster_sampled", "clusters")}
    assert set(counts.values()) == {counts["exact"]}


@pytest.mark.parametrize("recipe", [sgl, lightgcl])
@pytest.mark.parametrize("kind", ["sampled", "clusters", "cluster_sampled", "bank"])
def test_measuring_the_gap_changes_no_gradient(recipe, kind):
    """It reads all keys, which the step keeps for whoever reads them next."""

    def gradient(measured: bool):
        settings = {"rank": 2} if recipe is lightgcl else {}
        config = recipe.Config(dim=dense.WIDTH, negatives=kind, num_negatives=7, **settings)
        model = recipe.build(config, dense.log(), rng=dense.generator(0))
        (negatives,) = [part for part in model.modules() if isinstance(part, KINDS[kind])]
        rng = dense.generator(3)
        for part in model.modules():
            if isinstance(part, graphcl.contracts.Part):
                part.start_epoch(dense.inputs(), 1, rng)
        if not measured:
            negatives.gaps = dict.fromkeys(("user", "item"))
        sum(model.losses(dense.inputs(), dense.BATCH, dense.generator(4)).values()).backward()
        return model.encoder.embedding.grad

    torch.testing.assert_close(gradient(True), gradient(False), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("recipe", [sgl, lightgcl])
def test_one_cluster_a_key_is_exact(recipe):
    """First step: the loss of the recipe with all keys, and of the one with as many clusters as keys."""

    def first(**settings):
        settings |= {"rank": 2} if recipe is lightgcl else {}
        model = recipe.build(recipe.Config(dim=dense.WIDTH, **settings), dense.log(), rng=dense.generator(0))
        rng = dense.generator(3)
        for part in model.modules():
            if isinstance(part, graphcl.contracts.Part):
                part.start_epoch(dense.inputs(), 1, rng)
        return model.losses(dense.inputs(), dense.BATCH, dense.generator(4))["contrast"].item()

    assert first(negatives="clusters", num_clusters=99, own_cluster="approx") == pytest.approx(first(), rel=1e-5)


@pytest.mark.parametrize("kind", ["sampled", "clusters", "cluster_sampled", "bank"])
def test_runs_report_their_gap_and_resume_as_they_were(kind, tmp_path):
    log, _ = checkerboard()
    settings = {
        "negatives": kind,
        "num_negatives": 7,
        "epochs": 4,
        "batch_size": 16,
        "dim": 4,
        "evaluate_every": 1,
        "patience": 0,
    }
    whole = graphcl.train("sgl", log, out=tmp_path / "whole", **settings)
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 4
    for line in lines:
        assert set(line["gaps"]) == {"user", "item"}
        assert set(line["gaps"]["user"]) == {"mean", "p95"}
    assert any(line["gaps"]["user"]["p95"] > 0 for line in lines)

    class Cut(Exception):
        pass

    def cut(kind, what):
        if kind == "epoch" and what["epoch"] == 2:
            raise Cut

    with pytest.raises(Cut):
        graphcl.train("sgl", log, out=tmp_path / "cut", observe=cut, **settings)
    resumed = graphcl.train("sgl", log, out=tmp_path / "cut", resume=True, **settings)
    for a, b in zip(whole.embeddings(), resumed.embeddings(), strict=True):
        assert (a == b).all()


def test_communities_of_the_graph_are_its_clusters():
    made = strategy(Denominator(negatives="clusters", clusters_by="communities"), tiny_graph(), 4, dense.generator(0))
    found = communities(tiny_graph(), rng=dense.generator(0))
    for kind, span in tiny_graph().kinds.items():
        assert torch.equal(made.state.get_buffer(f"{kind}_clusters"), found[span].unique(return_inverse=True)[1])


def test_exact_negatives_report_none(tmp_path):
    log, _ = checkerboard()
    graphcl.train("sgl", log, out=tmp_path / "run", epochs=1, batch_size=16, dim=4)
    assert "gaps" not in json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])


def test_meow(tmp_path):
    run = graphcl.train(
        "meow", planted(), out=tmp_path / "run", epochs=3, evaluate_every=1, negatives="clusters", clusters=(4,), neighbours=(5,)
    )
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert line["gaps"]["node"]["mean"] < 0
    assert torch.from_numpy(run.embeddings().nodes).isfinite().all()
    assert meow.Config().negatives == "exact"
