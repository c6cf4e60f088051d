"""Runs on attributed graphs: what is measured, what chooses the epoch, the protocol as-published, and that a resumed run is the same."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import graphcl
from graphcl.cli import main
from graphcl.data.attributed import write_attributed
from graphcl.data.fingerprint import of_graph
from graphcl.planted import planted, planted_attributed
from graphcl.pretrain import NodeRun
from graphcl.probe import cluster_probe, clustering, k_means, modularity

# A recipe whose clusters follow a script: one row of assignments an epoch.
TOY = '''"""Clusters by a script."""
from dataclasses import dataclass
import torch
from torch import nn
from graphcl.contracts import Targets
from graphcl.recipes.settings import ClusterTraining
from graphcl.train import PlainStep

KIND = "attributed"
PRESETS = {}

@dataclass(frozen=True)
class Config(ClusterTraining):
    script: tuple = ()
    rise: tuple = (0,)

def inputs(config, data, *, rng):
    if config.dim < 1:
        raise ValueError("dim must be 1 or more")
    return torch.from_numpy(data.x.toarray())

def build(config, data, inputs, *, rng):
    return Scripted(config, inputs.shape[1], rng)

def batches(config, data):
    return lambda rng: iter([Targets()])

def step(config, model):
    return PlainStep(model, config.learning_rate)

class Scripted(nn.Module):
    def __init__(self, config, width, rng):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, config.dim, generator=rng))
        self.register_buffer("script", torch.tensor(config.script))
        self.register_buffer("count", torch.tensor(0))
        self.rise = config.rise

    def losses(self, inputs, batch, rng):
        self.count += 1
        return {"fit": self.weight.square().mean() * 0 + float(self.rise[int(self.count) - 1])}

    def embed(self, inputs):
        return (inputs @ self.weight).detach() + self.count

    def clusters(self, inputs):
        return self.script[int(self.count) - 1]
'''


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """The package of two recipes: with clusters, and without."""
    folder = tmp_path / "scripted"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "own.py").write_text(TOY)
    (folder / "none.py").write_text(TOY.partition("    def clusters")[0])
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.startswith("scripted")]:
        del sys.modules[name]


def script():
    """Five epochs: 12 errors; two classes merged; all wrong; best of all but in the noise; merged again."""
    labels, rng = planted_attributed().labels.numpy(), np.random.default_rng(0)
    noisy = labels.copy()
    wrong = rng.permutation(48)[:12]
    noisy[wrong] = (noisy[wrong] + rng.integers(1, 3, size=12)) % 3
    return [
        each.tolist()
        for each in (noisy, np.minimum(labels, 1), rng.integers(3, size=48), noisy[::-1].copy(), np.minimum(labels, 1))
    ]


SETTINGS = {"dim": 4, "epochs": 5, "evaluate_every": 2, "rise": (3, 2, 1, 2, 3)}


def trained(path, recipe="scripted.own", data=None, **changes) -> NodeRun:
    run = graphcl.train(recipe, data or planted_attributed(), out=path, **{**SETTINGS, "script": script(), **changes})
    assert isinstance(run, NodeRun)
    return run


def test_a_models_own_clusters_are_measured_and_those_of_k_means_beside_them(toy, tmp_path):
    run, labels = trained(tmp_path / "run"), planted_attributed().labels
    metrics = run.result["metrics"]
    last = torch.tensor(script()[-1])
    assert {key: metrics["test"][key] for key in ("acc", "nmi", "ari", "f1")} == clustering(labels, last)
    embedding = torch.from_numpy(run.embeddings().nodes)
    probe = cluster_probe(embedding, labels)
    assert metrics["kmeans"] == probe.means
    assert metrics["kmeans_std"] == probe.stds
    assert {"ma_f1@5", "mi_f1@5", "auc@5"} < set(metrics["test"])
    assert set(metrics["test_std"]) == {"ma_f1@5", "mi_f1@5", "auc@5"}
    assert (run.result["selected_on"], run.result["best_epoch"], run.result["protocol"]) == (None, 5, "valid")
    assert run.clusters().tolist() == script()[-1]
    again = graphcl.load(run.path)
    assert again.evaluate() == metrics
    model, inputs = again.model(planted_attributed())
    assert torch.equal(model.embed(inputs), embedding)
    with pytest.raises(ValueError, match="was trained on other data"):
        again.model(planted_attributed(seed=1))


def test_without_clusters_of_its_own_k_means_is_the_test(toy, tmp_path):
    run = trained(tmp_path / "run", "scripted.none")
    metrics, embedding = run.result["metrics"], torch.from_numpy(run.embeddings().nodes)
    probe = cluster_probe(embedding, planted_attributed().labels)
    assert {key: metrics["test"][key] for key in probe.means} == probe.means
    assert {key: metrics["test_std"][key] for key in probe.means} == probe.stds
    assert "kmeans" not in metrics
    assert run.clusters().tolist() == k_means(embedding, 3).tolist()


def test_as_published_is_each_metrics_maximum(toy, tmp_path):
    run, labels = trained(tmp_path / "run", protocol="as-published"), planted_attributed().labels
    each = [clustering(labels, torch.tensor(row)) for row in script()]
    result = run.result
    for metric in ("acc", "nmi", "ari", "f1"):
        values = [found[metric] for found in each]
        assert result["metrics"]["test"][metric] == max(values)
        assert result["best_epochs"][metric] == 1 + values.index(max(values))
    assert result["best_epochs"]["acc"] != result["best_epochs"]["nmi"]  # chosen apart, as the releases do
    assert result["metrics"]["chosen"] == each[-1]
    assert (result["selected_on"], result["protocol"]) == ("test", "as-published")
    assert run.evaluate() == result["metrics"]
    np.testing.assert_array_equal(run.embeddings().nodes, trained(tmp_path / "valid").embeddings().nodes)  # looking moves nothing
    assert [json.loads(line)["test"] for line in (run.path / "metrics.jsonl").read_text().splitlines()] == each


def test_as_published_with_k_means(toy, tmp_path):
    """The embedding moves as a whole, so its clusters are the same after every epoch."""
    run = trained(tmp_path / "run", "scripted.none", protocol="as-published", script=[])
    found = clustering(planted_attributed().labels, k_means(torch.from_numpy(run.embeddings().nodes), 3))
    assert {key: run.result["metrics"]["test"][key] for key in found} == pytest.approx(found)
    assert not {"acc", "nmi", "ari", "f1"} & set(run.result["metrics"]["test_std"])


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["valid", "as-published"])
def test_a_run_that_broke_off_goes_on_to_the_same_end(toy, tmp_path, protocol):
    class Cut(Exception):
        pass

    def cut(kind, what):
        if kind == "epoch" and what["epoch"] == 3:
            raise Cut

    whole = trained(tmp_path / "whole", protocol=protocol)
    with pytest.raises(Cut):
        trained(tmp_path / "cut", protocol=protocol, observe=cut)
    ended = trained(tmp_path / "cut", protocol=protocol, resume=True)
    assert ended.result["metrics"] == whole.result["metrics"]
    assert ended.result.get("best_epochs") == whole.result.get("best_epochs")
    np.testing.assert_array_equal(ended.embeddings().nodes, whole.embeddings().nodes)
    lines = [
        [json.loads(line)["epoch"] for line in (run.path / "metrics.jsonl").read_text().splitlines()] for run in (ended, whole)
    ]
    assert lines[0] == lines[1] == ([2, 4, 5] if protocol == "valid" else [1, 2, 3, 4, 5])


def test_what_chooses_the_epoch_knows_no_labels(toy, tmp_path):
    data = planted_attributed()
    lowest = trained(tmp_path / "loss", select="loss")
    assert (lowest.result["best_epoch"], lowest.result["selected_on"]) == (3, "loss")
    assert lowest.clusters().tolist() == script()[2]
    modular = trained(tmp_path / "modularity", select="modularity", evaluate_every=1)
    scores = [modularity(data.graph, torch.tensor(row)) for row in script()]
    assert modular.result["best_epoch"] == 1 + scores.index(max(scores))
    assert modular.result["selected_on"] == "modularity"
    lines = (modular.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["modularity"] for line in lines] == pytest.approx(scores)
    with pytest.raises(ValueError, match="'select' must be one of last, loss, modularity, got 'acc'"):
        trained(tmp_path / "acc", select="acc")


def test_the_floor_on_data_of_ones_own(tmp_path):
    pytest.importorskip("torch_geometric")
    data = planted_attributed()
    run = graphcl.train("svd_kmeans", data.to_pyg(), out=tmp_path / "pyg", dim=8)
    write_attributed(data, tmp_path / "toy.npz")
    other = graphcl.train("svd_kmeans", tmp_path / "toy.npz", out=tmp_path / "npz", dim=8)
    assert run.result["metrics"] == other.result["metrics"]
    assert run.result["metrics"]["test"]["acc"] > 0.9


def test_data_without_labels(toy, tmp_path, monkeypatch, capsys):
    data = planted_attributed().to_pyg()
    data.y = data.train_mask = None
    own = graphcl.AttributedData.from_pyg(data, num_clusters=3)
    run = graphcl.train("svd_kmeans", own, out=tmp_path / "run", dim=8)
    assert {k: v for k, v in run.result["metrics"].items() if k != "embedding"} == {"test": {}, "test_std": {}}
    assert sorted(set(run.clusters().tolist())) == [0, 1, 2]
    assert run.evaluate() == run.result["metrics"]
    with pytest.raises(ValueError, match="graph has no labels of two classes, and as-published takes the maximum"):
        trained(tmp_path / "a", data=own, protocol="as-published")
    assert not (tmp_path / "a").exists()
    write_attributed(own, tmp_path / "toy.npz")
    monkeypatch.setattr(
        sys, "argv", ["graphcl", "train", "svd_kmeans", str(tmp_path / "toy.npz"), "--out", str(tmp_path / "b"), "--set", "dim=8"]
    )
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert "No labels to evaluate with." in capsys.readouterr().out
    with np.load(tmp_path / "toy.npz") as archive:
        np.savez(tmp_path / "bare.npz", **{key: archive[key] for key in archive if key != "y"})
    words = ["graphcl", "train", "svd_kmeans", str(tmp_path / "bare.npz"), "--out", str(tmp_path / "c"), "--num-clusters", "3"]
    monkeypatch.setattr(sys, "argv", [*words, "--set", "dim=8"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    assert graphcl.load(tmp_path / "c").clusters().tolist() == run.clusters().tolist()


@pytest.fixture
def unlabelled():
    data = planted_attributed()
    return replace(data, labels=torch.full_like(data.labels, -1), splits={}, num_clusters=0)


FAST = {"epochs": 2, "pretrain_epochs": 1, "layers": (8,)}


@pytest.mark.parametrize("recipe", ["pamc", "scgc", "pamc_sized"])
def test_a_number_of_clusters_must_be_known(unlabelled, tmp_path, recipe):
    """It was an IndexError of argmax, or scikit-learn's error."""
    with pytest.raises(ValueError, match="planted has no classes, so how many clusters to look for must be told: num_clusters="):
        graphcl.train(recipe, unlabelled, out=tmp_path / "a", **FAST)
    assert not (tmp_path / "a").exists()
    run = graphcl.train(recipe, unlabelled, out=tmp_path / "a", options={"num_clusters": 4}, **FAST)
    assert set(run.clusters().tolist()) <= set(range(4))
    model, _ = run.model(replace(unlabelled, num_clusters=4))
    assert len(model.centres) == 4
    with pytest.raises(ValueError, match="was trained on other data"):
        run.model(replace(unlabelled, num_clusters=5))
    own = graphcl.train(recipe, unlabelled.to_pyg(), out=tmp_path / "b", options={"num_clusters": np.int64(4)}, **FAST)
    assert len(own.model(unlabelled.to_pyg())[0].centres) == 4  # the graph as train took it
    for odd in (3.0, "3"):
        with pytest.raises(ValueError, match=f"num_clusters must be a whole number, got {odd!r}"):
            graphcl.train(recipe, unlabelled, out=tmp_path / "c", options={"num_clusters": odd}, **FAST)


def test_clusters_of_the_floor_without_a_number(unlabelled, tmp_path):
    run = graphcl.train("svd_kmeans", unlabelled, out=tmp_path / "a", dim=8)
    with pytest.raises(
        ValueError, match=r"a: how many clusters to look for is not known, for there are no classes and no num_clusters"
    ):
        run.clusters()
    told = graphcl.train("svd_kmeans", unlabelled, out=tmp_path / "b", dim=8, options={"num_clusters": 3})
    assert told.clusters().tolist() == k_means(torch.from_numpy(run.embeddings().nodes), 3).tolist()


def test_options_that_do_not_fit(unlabelled, tmp_path):
    with pytest.raises(ValueError, match="svd_kmeans trains on a graph, for which user_col cannot be set"):
        graphcl.train("svd_kmeans", unlabelled, out=tmp_path / "a", options={"user_col": "u", "num_clusters": 3})
    with pytest.raises(ValueError, match="meow trains on a graph, for which num_clusters cannot be set"):
        graphcl.train("meow", planted(), out=tmp_path / "a", options={"num_clusters": 3})
    with pytest.raises(ValueError, match="the option num_clusters is for attributed graphs and cannot be set for a log"):
        graphcl.train("popular", tmp_path / "log.csv", out=tmp_path / "a", options={"num_clusters": 3})
    with pytest.raises(ValueError, match="num_clusters must lie between 1 and the number of nodes, 48"):
        graphcl.train("svd_kmeans", unlabelled, out=tmp_path / "a", options={"num_clusters": 49})
    assert not (tmp_path / "a").exists()


def test_what_is_refused_leaves_no_directory(toy, tmp_path):
    out = tmp_path / "a"
    one = planted_attributed()
    with pytest.raises(ValueError, match="unknown setting 'dimm'"):
        graphcl.train("svd_kmeans", one, out=out, dimm=3)
    with pytest.raises(ValueError, match="'num_hops' must be 0 or more, got -1"):
        graphcl.train("svd_kmeans", one, out=out, num_hops=-1)
    with pytest.raises(ValueError, match="dim must be 1 or more"):
        trained(out, dim=0)
    with pytest.raises(ValueError, match="protocol cannot be set; its protocol is valid or as-published"):
        graphcl.train("svd_kmeans", one, out=out, protocol="refit")
    with pytest.raises(ValueError, match=r"protocol cannot be set; its protocol is valid$"):
        graphcl.train("meow", planted(), out=out, protocol="as-published")
    with pytest.raises(ValueError, match=r"an attributed graph is needed: .* got NodeData"):
        graphcl.train("svd_kmeans", planted(), out=out)
    with pytest.raises(ValueError, match=r"a heterogeneous graph is needed: .* got AttributedData"):
        graphcl.train("meow", one, out=out)
    lone = graphcl.AttributedData(
        one.name, one.graph, one.x, one.labels, {1: one.splits[5]._replace(test=one.splits[5].test[:1])}
    )
    with pytest.raises(ValueError, match="planted, label rate 1: test must have nodes of two classes or more"):
        graphcl.train("svd_kmeans", lone, out=out)
    assert not out.exists()


def test_the_fingerprint_is_of_everything():
    data = planted_attributed()
    found = {of_graph(data)}
    x = data.x.copy()
    x.data[0] = 2
    labels = data.labels.clone()
    labels[-1] = -1
    graph = graphcl.Graph.from_pairs(*data.graph.pairs[:, 1:].numpy(), 48)
    for change in (
        {"x": x},
        {"labels": labels, "splits": {}},
        {"splits": {}},
        {"num_clusters": 5},
        {"graph": graph},
        {"x": torch.from_numpy(x.toarray())},
    ):
        found.add(of_graph(graphcl.AttributedData(**{**vars(data), **change})))
    assert len(found) == 7
    assert of_graph(planted_attributed()) in found


def test_the_command_line(toy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_attributed(planted_attributed(), tmp_path / "toy.npz")

    def called(*words):
        monkeypatch.setattr(sys, "argv", ["graphcl", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        assert not ended.value.code, told.err
        return told.out

    settings = [
        word
        for key, value in {**SETTINGS, "script": script()}.items()
        for word in ("--set", f"{key}={json.dumps(value)}")
        if key != "epochs"
    ]
    told = called("train", "scripted.own", "toy.npz", "--out", "run", "--epochs", "5", *settings)
    assert "no epoch chosen" in told
    assert {"clusters", "k-means"} <= {line.split()[0] for line in told.splitlines() if line.split()}
    told = called("train", "scripted.own", "toy.npz", "--out", "max", "--epochs", "5", "--protocol", "as-published", *settings)
    assert "EACH CLUSTER METRIC'S MAXIMUM OVER EPOCHS" in told
    assert "when chosen" in told
    assert (
        called("evaluate", "run").split("acc")[1].split()[0]
        == f"{clustering(planted_attributed().labels, torch.tensor(script()[-1]))['acc']:.4f}"
    )
    called("embed", "run", "--out", "z.npz")
    with np.load("z.npz", allow_pickle=False) as found:
        assert found["nodes"].shape == (48, 4)
    assert '"homophily"' in called("data", "describe", "toy.npz", "--json")


def test_more_clusters_than_labelled_nodes_are_not_held_against_labels(tmp_path):
    labels = torch.full_like(planted_attributed().labels, -1)
    labels[:4] = torch.tensor([0, 1, 0, 1])
    data = replace(planted_attributed(), labels=labels, splits={}, num_clusters=6)
    run = graphcl.train("svd_kmeans", data, out=tmp_path / "run")
    assert run.result["metrics"]["test"] == {}
    assert len(set(run.clusters())) == 6
    for protocol in ("valid", "as-published"):  # a model's own are compared with classes, however few nodes have one
        run = graphcl.train("pamc", data, out=tmp_path / protocol, protocol=protocol, epochs=1, pretrain_epochs=0)
        assert set(run.result["metrics"]["test"]) == {"acc", "nmi", "ari", "f1"}
        assert "kmeans" not in run.result["metrics"]
