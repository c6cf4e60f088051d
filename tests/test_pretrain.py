"""Runs on graphs: what chooses the epoch, what is kept, and that a resumed run is the same."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import sparse

import graphcl
from graphcl import phase, pretrain, runs
from graphcl.data.fingerprint import of_graph
from graphcl.data.nodes import NodeData
from graphcl.hetero import HeteroGraph
from graphcl.planted import planted, planted_attributed
from graphcl.pretrain import NodeRun
from graphcl.probe import k_means
from graphcl.recipes import heco, meow, svd_hops
from graphcl.recipes.metapaths import CoarseFine, incidence_svd
from graphcl.run import Run

FAST = {"dim": 8, "epochs": 6, "evaluate_every": 2, "neighbours": (8,), "clusters": (4, 6), "learning_rate": 0.01}


def trained(path, **changes) -> NodeRun:
    return pretrain.train("meow", planted(), out=path, **{**FAST, **changes})


def folder(path, data: NodeData):
    """The data in the format of the releases."""
    path.mkdir()
    for (a, b), matrix in data.graph.relations.items():
        np.savetxt(path / f"{a}{b}.txt".lower(), np.stack(matrix.nonzero()).T, fmt="%d")
    for name in data.metapaths:
        (path / f"{name.lower()}.npz").touch()
    sparse.save_npz(path / "p_feat.npz", data.graph.x["P"])
    np.save(path / "labels.npy", data.labels.numpy())
    for rate, split in data.splits.items():
        for part, ids in zip(("train", "val", "test"), split, strict=True):
            np.save(path / f"{part}_{rate}.npy", ids.numpy())
    return path


def test_a_run_holds_what_evaluation_needs(tmp_path):
    run = trained(tmp_path / "a")
    assert run.result["epochs"] == 6
    assert run.result["selected_on"] == "loss"
    assert set(run.result["metrics"]) == {"test", "test_std", "valid", "embedding"}
    assert {"ma_f1@5", "mi_f1@5", "auc@5", "nmi", "ari"} <= set(run.result["metrics"]["test"])
    assert run.embeddings().nodes.shape == (48, 8)
    again = runs.load(tmp_path / "a")
    assert isinstance(again, NodeRun)
    assert again.evaluate() == run.result["metrics"]


@pytest.mark.parametrize("made", [planted, planted_attributed])
def test_ids_come_out_as_they_went_in(tmp_path, made):
    data = replace(made(), ids=np.array([f"paper {n}" for n in range(48)], dtype=object))
    run = graphcl.train("svd_hops" if made is planted else "svd_kmeans", data, out=tmp_path / "run")
    assert run.embeddings().ids.tolist() == data.ids.tolist()
    with pytest.raises(ValueError, match="5 ids for 48 nodes"):
        replace(data, ids=np.arange(5))


def test_steps_are_told(tmp_path):
    heard = []
    graphcl.train("meow", planted(), out=tmp_path / "run", epochs=2, dim=8, observe=lambda kind, _: heard.append(kind))
    assert heard == ["step", "epoch", "step", "epoch"]


def test_the_lowest_loss_is_kept_and_patience_stops(tmp_path):
    run = trained(tmp_path / "a", epochs=200, patience=3, evaluate_every=1, learning_rate=0.1)
    lines = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    losses = [sum(line["terms"].values()) for line in lines]
    assert len(lines) == run.result["epochs"] < 200
    assert run.result["best_epoch"] == int(np.argmin(losses)) + 1 == run.result["epochs"] - 3


def test_validation_chooses_where_asked(tmp_path):
    run = trained(tmp_path / "a", select="ma_f1", patience=0, epochs=8)
    lines = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [2, 4, 6, 8]
    assert run.result["best_epoch"] == 2 * (int(np.argmax([line["valid"]["ma_f1"] for line in lines])) + 1)
    assert run.result["selected_on"] == "valid"
    assert all("test" not in line for line in lines)


def test_the_last_epoch_is_kept_where_asked(tmp_path):
    assert trained(tmp_path / "a", select="last", patience=0).result["best_epoch"] == 6


def test_weights_that_the_last_step_broke_are_told(tmp_path, monkeypatch):
    whole = phase.fit

    def breaking(model, *arguments, **options):
        for epoch in whole(model, *arguments, **options):
            with torch.no_grad():
                next(model.parameters()).fill_(torch.nan)
            yield epoch

    monkeypatch.setattr(phase, "fit", breaking)
    with pytest.raises(FloatingPointError, match="is not finite after the last step"):
        trained(tmp_path / "a", select="last", patience=0, epochs=1)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"batch_size": 24, "norm": "row", "masks": "epoch", "fanouts": (3, 2)}])
def test_a_resumed_run_is_the_same(tmp_path, changes):
    """Cut after an evaluated epoch, going on from the checkpoint."""
    whole = trained(tmp_path / "whole", **changes)

    def stops(kind, what):
        if kind == "epoch" and what["epoch"] == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "cut", observe=stops, **changes)
    with pytest.raises(ValueError, match="has not finished"):
        _ = NodeRun(tmp_path / "cut").result
    resumed = trained(tmp_path / "cut", resume=True, **changes)
    assert (resumed.embeddings().nodes == whole.embeddings().nodes).all()
    assert resumed.result["metrics"] == whole.result["metrics"]
    with pytest.raises(ValueError, match="other settings"):
        trained(tmp_path / "cut", resume=True, **{**changes, "temperature": 0.3})
    trained(tmp_path / "less", **{**changes, "epochs": 3})
    more = trained(tmp_path / "less", resume=True, **changes)
    assert (more.embeddings().nodes == whole.embeddings().nodes).all()
    assert more.result["epochs"] == whole.result["epochs"]


def test_the_release_hands_out_its_last_training_pass(monkeypatch):
    data, passes = planted(), []
    inner = CoarseFine.whole
    monkeypatch.setattr(CoarseFine, "whole", lambda *given: passes.append(inner(*given)) or passes[-1])
    config = meow.Config(**FAST, released=True, select="last", patience=0)
    phase = pretrain.run(pretrain.start(meow, config, data, 0, "cpu"), config, data, None)
    assert len(passes) == config.epochs
    assert phase.model.embed(phase.inputs).equal(passes[-1][1])


def test_permuting_ids_changes_nothing_but_the_draws():
    """The first loss, without dropout, masks or pruning, does not depend on the order of ids."""
    config = meow.Config(dim=8, dropout=0.0, feature_mask=0.0, edge_mask=(0.0,), neighbours=(48,), clusters=(1, 48))
    losses = []
    for order in (np.arange(48), np.random.default_rng(0).permutation(48)):
        phase = pretrain.start(meow, config, planted().reordered(order), 0, "cpu")
        terms = phase.model.losses(phase.inputs, next(phase.batches(None)), torch.Generator().manual_seed(0))
        losses.append(float(terms["contrast"].detach()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.slow
def test_command_line(tmp_path, capsys, monkeypatch):
    from graphcl import cli

    monkeypatch.chdir(tmp_path)
    folder(tmp_path / "toy", planted())
    sets = [
        word for key, value in {**FAST, "neighbours": "[8]", "clusters": "[4,6]"}.items() for word in ("--set", f"{key}={value}")
    ]

    def called(*words) -> str:
        monkeypatch.setattr("sys.argv", ["graphcl", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out = capsys.readouterr()
        assert stop.value.code in (0, None), out.err
        return out.out

    result = json.loads(called("train", "meow", "./toy", "--out", "run", "--json", *sets).splitlines()[-1])
    assert result["metrics"]["test"].keys() >= {"ma_f1@5", "nmi"}
    assert json.loads(called("evaluate", "run", "--json"))["metrics"]["test"] == result["metrics"]["test"]
    assert "ma_f1@5" in called("evaluate", "run")
    called("embed", "run", "--out", "z.npz")
    with np.load("z.npz", allow_pickle=False) as found:
        assert found["nodes"].shape == (48, 8)
        assert found["ids"].tolist() == list(range(48))
    called("embed", "run", "--out", "z.parquet")
    assert "labels a class" in called("train", "svd_hops", "./toy", "--out", "floor")


def test_a_fingerprint_is_of_features_and_metapaths_too():
    data = planted()
    (x,) = data.graph.x.values()
    others = [
        replace(data, graph=replace(data.graph, x={"P": x * 2})),
        replace(data, graph=replace(data.graph, x={})),
        replace(data, metapaths=data.metapaths[:1]),
        *(replace(data, positives=sparse.csr_matrix((len(data.labels),) * 2) + sparse.eye(len(data.labels)) * w) for w in (0, 1)),
    ]
    assert len({of_graph(made) for made in (data, *others)}) == 6
    assert of_graph(planted()) == of_graph(data)


def test_what_is_refused(tmp_path):
    with pytest.raises(ValueError, match="protocol cannot be set"):
        graphcl.train("meow", planted(), protocol="refit", out=tmp_path / "a")
    with pytest.raises(ValueError, match="batches would change the model; set norm=row"):
        trained(tmp_path / "a", batch_size=8)
    with pytest.raises(ValueError, match="released=True is full-batch"):
        trained(tmp_path / "a", batch_size=8, norm="row", released=True)
    with pytest.raises(ValueError, match=r"batch_size must lie between 1 and the number of targets, 48"):
        trained(tmp_path / "a", batch_size=49, norm="row")
    with pytest.raises(ValueError, match="'neighbours' has 3 values, but planted has 2 meta-paths: PAP, PSP"):
        trained(tmp_path / "a", neighbours=(1, 2, 3))
    with pytest.raises(ValueError, match="fanouts are 2 numbers"):
        trained(tmp_path / "a", fanouts=(3,))
    with pytest.raises(ValueError, match="heco is full-batch"):
        pretrain.train("heco", planted(), out=tmp_path / "a", batch_size=8)
    with pytest.raises(ValueError, match="'samples' names Z; types beside P: A, S"):
        pretrain.train("heco", planted(), out=tmp_path / "a", samples={"Z": 1})
    assert not (tmp_path / "a").exists()
    recommender = pretrain.train("svd_hops", planted(), out=tmp_path / "floor", dim=4)
    assert not isinstance(recommender, Run)


@pytest.mark.parametrize(
    ("recipe", "changed", "told"),
    [
        ("meow", {"evaluate_every": 0}, "setting 'evaluate_every' must be 1 or more, got 0"),
        ("meow", {"epochs": -1}, "setting 'epochs' must be 0 or more, got -1"),
        ("pamc", {"patience": -1}, "setting 'patience' must be 0 or more, got -1"),
        ("meow", {"prototype_weight": -1.0}, "setting 'prototype_weight' must be 0 or more, got -1.0"),
        ("meow", {"clusters": ()}, "setting 'clusters' needs whole numbers of 1 or more"),
        ("meow", {"clusters": (2, "x")}, "setting 'clusters' needs whole numbers of 1 or more"),
        ("meow", {"batch_size": 1}, "setting 'batch_size' must be 0, for all, or 2 or more"),
        ("heco", {"samples": {}}, "setting 'samples' needs whole numbers of 1 or more"),
        ("heco", {"samples": {"A": 2.5}}, "setting 'samples' needs whole numbers of 1 or more"),
        ("pamc", {"epochs": 0, "protocol": "as-published"}, "takes the maximum over epochs, so epochs must be 1 or more"),
    ],
)
def test_refused_settings_leave_no_directory(tmp_path, recipe, changed, told):
    with pytest.raises(ValueError, match=told):
        graphcl.train(recipe, planted_attributed() if recipe == "pamc" else planted(), out=tmp_path / "run", **changed)
    assert not (tmp_path / "run").exists()


def test_a_graph_without_labels(tmp_path):
    """From Python, and from a folder; nothing is probed."""
    data = planted()
    bare = NodeData.from_graph(data.graph, data.metapaths)
    path = folder(tmp_path / "toy", bare)
    (path / "labels.npy").unlink()
    own = graphcl.train("meow", bare, out=tmp_path / "own", **FAST)
    read = graphcl.train("meow", path, out=tmp_path / "read", **{**FAST, "select": "loss"})
    for run in (own, read):
        assert {key: value for key, value in run.result["metrics"].items() if key != "embedding"} == {"test": {}, "test_std": {}}
        assert run.evaluate() == run.result["metrics"]
        assert run.embeddings().nodes.shape == (48, 8)
        with pytest.raises(ValueError, match="how many clusters to look for is not known, for there are no classes"):
            run.clusters()


def test_splits_may_share_their_parts(tmp_path):
    """One validation and test part for all label rates once stopped a run when it was written, after training."""
    data = planted()
    whole = data.splits[5]
    own = NodeData.from_graph(
        data.graph, ["PAP", "PSP"], data.labels.numpy(), {5: tuple(whole), 3: (whole.train[:9], whole.valid, whole.test)}
    )
    run = pretrain.train("svd_hops", own, out=tmp_path / "run", dim=4)
    assert graphcl.load(run.path).evaluate() == run.result["metrics"]
    assert {"ma_f1@3", "ma_f1@5"} <= set(run.result["metrics"]["test"])


def test_label_rates_are_whole_numbers(tmp_path):
    """Fractions were cut to one and the same rate when the run was evaluated."""
    data = planted()
    parts = tuple(data.splits[5])
    for rate in (0.1, "public"):
        with pytest.raises(
            ValueError, match=f"graph: a label rate, labelled nodes a class, must be a whole number, got {rate!r}"
        ):
            NodeData.from_graph(data.graph, ["PAP"], data.labels.numpy(), {rate: parts})
    own = NodeData.from_graph(data.graph, ["PAP"], data.labels.numpy(), {np.int64(5): parts})
    run = pretrain.train("svd_hops", own, out=tmp_path / "run", dim=4)
    assert graphcl.load(run.path).evaluate() == run.result["metrics"]


def test_a_probe_that_chooses_needs_splits(tmp_path):
    """It was found out at the first evaluation, and a directory was left behind."""
    data = replace(planted(), splits={})
    for recipe, changes, select in (("adameow", {}, "ma_f1"), ("meow", {"select": "mi_f1"}, "mi_f1")):
        told = rf"select='{select}' scores a probe on validation nodes, but planted has no splits; set select=loss \(or last\)"
        with pytest.raises(ValueError, match=told):
            graphcl.train(recipe, data, out=tmp_path / "a", epochs=2, **changes)
    assert not (tmp_path / "a").exists()
    run = graphcl.train("adameow", data, out=tmp_path / "b", dim=8, epochs=2, select="last")
    assert {"nmi", "ari"} <= set(run.result["metrics"]["test"])


def test_a_graph_needs_meta_paths(tmp_path):
    graph = planted().graph
    with pytest.raises(
        ValueError, match=r"got HeteroGraph, which has no meta-paths; give NodeData\.from_graph\(graph, metapaths\)$"
    ):
        graphcl.train("meow", graph, out=tmp_path / "a")
    pytest.importorskip("torch_geometric")
    told = r"got HeteroData, .*; give NodeData\.from_graph\(HeteroGraph\.from_pyg\(data, target\), metapaths\)$"
    with pytest.raises(ValueError, match=told):
        graphcl.train("meow", graph.to_pyg(), out=tmp_path / "a")
    with pytest.raises(ValueError, match=r"a name, a folder or NodeData, got dict$"):
        graphcl.train("meow", {}, out=tmp_path / "a")
    assert graphcl.NodeData is NodeData
    assert not (tmp_path / "a").exists()


def test_the_floor_of_targets_without_features():
    """Types by their names of several letters."""
    letters = planted()
    names = {"P": "paper", "A": "author", "S": "subject"}
    relations = {(names[a], names[b]): matrix for (a, b), matrix in letters.graph.relations.items()}
    graph = HeteroGraph({names[k]: n for k, n in letters.graph.counts.items()}, relations, "paper")
    data = replace(letters, graph=graph, metapaths=("paper-author-paper", "paper-subject-paper"))
    found = svd_hops.embed(svd_hops.Config(dim=4, num_hops=0), data, rng=torch.Generator())
    rows = torch.nn.functional.normalize(incidence_svd(graph, "paper", 4))
    torch.testing.assert_close(found, rows)


def test_hecos_positives():
    """Equation 10: the nodes that most meta-paths join, self first."""
    a = sparse.csr_matrix(np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]))
    b = sparse.csr_matrix(np.array([[1, 0, 1, 1], [0, 0, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1]]))
    found = heco.most_joined([a, b], 2, torch.Generator().manual_seed(0)).toarray()
    assert found[0].tolist() == [1, 0, 1, 0]  # 2 is joined by both, 1 and 3 by one
    assert found[1].tolist() == [1, 1, 0, 0]
    assert found[2].tolist() == [1, 0, 1, 0]
    assert found[3].tolist() == [1, 0, 0, 1]  # joined to itself by b alone
    ties = [tuple(heco.most_joined([a], 2, torch.Generator().manual_seed(s)).toarray()[0]) for s in range(200)]
    assert 60 < ties.count((1, 1, 0, 0)) < 140
    assert set(ties) == {(1, 1, 0, 0), (1, 0, 1, 0)}
    with pytest.raises(ValueError, match="num_positives"):
        heco.most_joined([a], 0, torch.Generator())


def test_the_probe_has_its_settings(monkeypatch):
    data, told = planted(), []
    found = SimpleNamespace(means={}, stds={}, valid={"ma_f1@20": 0.0, "mi_f1@20": 0.0})
    monkeypatch.setattr(pretrain, "label_probe", lambda *_, **named: told.append(named) or found)
    chosen = {"probe_learning_rate": 0.3, "probe_weight_decay": 0.4}
    pretrain.quick(torch.zeros(1), data, SimpleNamespace(**chosen))
    pretrain.probed(torch.rand(len(data.labels), 2), data.labels, data.splits, chosen, 0)
    assert [(each["learning_rate"], each["weight_decay"]) for each in told] == [(0.3, 0.4)] * 2


def test_what_chooses_an_epoch_is_a_mean_over_label_rates(monkeypatch):
    found = SimpleNamespace(valid={"ma_f1@5": 0.2, "ma_f1@20": 0.6, "mi_f1@5": 0.0, "mi_f1@20": 1.0, "auc@5": 0.9})
    monkeypatch.setattr(pretrain, "label_probe", lambda *_, **__: found)
    score = pretrain.quick(torch.zeros(1), planted(), SimpleNamespace(probe_learning_rate=0.1, probe_weight_decay=0.0))
    assert score == pytest.approx({"ma_f1": 0.4, "mi_f1": 0.5})


def test_clusters_of_a_finished_run_are_of_its_seed(tmp_path):
    noise = torch.rand(48, 6, generator=torch.Generator().manual_seed(0))
    data = replace(planted_attributed(), x=noise, num_clusters=8)
    run = graphcl.train("svd_kmeans", data, out=tmp_path / "run", seed=7, dim=4, num_hops=0)
    table = torch.from_numpy(run.embeddings().nodes)
    assert run.clusters().tolist() == k_means(table, 8, seed=7).tolist() != k_means(table, 8, seed=0).tolist()
    assert run.evaluate() == run.result["metrics"]
