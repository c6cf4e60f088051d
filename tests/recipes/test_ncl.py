"""NCL against dense float64: loss, gradient, steps of Adam through two epochs, and a run that is cut."""

import json

import pytest
import torch
from torch.testing import assert_close

import graphcl
from graphcl.recipes import ncl
from graphcl.streams import Streams
from graphcl.train import PlainStep, fit
from tests import dense
from tests.test_cluster import lloyd
from tests.toy import toy_csv

SMALL = {
    "dim": dense.WIDTH, "num_layers": 3, "num_clusters": 2, "warm_up": 1, "weight": 0.7, "item_weight": 0.6,
    "prototype_weight": 0.4, "temperature": 0.25, "decay": 0.3,
}  # fmt: skip


def test_constants():
    """The release's for MovieLens-1M; its contrasts are sums over 4096 triples beside a mean, ours means."""
    config = ncl.Config()
    assert (config.dim, config.num_layers, config.batch_size, config.learning_rate) == (64, 3, 4096, 1e-3)
    assert (config.contrast_layer, config.temperature, config.num_clusters, config.warm_up) == (2, 0.1, 1000, 20)
    assert (config.cluster_every, config.item_weight, config.decay) == (1, 1.0, 1e-4)
    assert config.weight == pytest.approx(1e-7 * 4096, rel=0.01)
    assert config.prototype_weight == pytest.approx(8e-8 * 4096, rel=0.01)


Clusters = list[tuple[torch.Tensor, torch.Tensor]]  # of users and of items: centroids [K, d], each node's [n]
SPANS = (dense.USER_ROWS, dense.ITEM_ROWS)
ANCHORS = (dense.BATCH.users, dense.BATCH.positives)


def terms(table: torch.Tensor, config: ncl.Config, clusters: Clusters) -> dict[str, torch.Tensor]:
    """The loss on the toy batch; without clusters the term of the prototypes is 0."""
    layers = dense.propagate(table, dense.normalised(dense.adjacency()), config.num_layers)
    users, items = (
        dense.nce(layers[config.contrast_layer], table, rows.tolist(), range(span.start, span.stop), config.temperature)
        for rows, span in zip(ANCHORS, SPANS, strict=True)
    )
    prototypes = table.new_zeros(())
    for (centroids, own), rows, span in zip(clusters, ANCHORS, SPANS):  # noqa: B905
        logits = dense.unit(table[rows]) @ dense.unit(centroids).T / config.temperature
        prototypes = prototypes + (logits.logsumexp(1) - logits[range(len(rows)), own[rows - span.start]]).mean()
    return {
        "bpr": dense.bpr(dense.average(layers)),
        "decay": config.decay * dense.half_squares(table),
        "structure": config.weight * (users + config.item_weight * items),
        "prototypes": config.prototype_weight * prototypes,
    }


def clusters_of(view, table: torch.Tensor) -> Clusters:
    """The view's centroids, from which nothing moves on ``table``, and the nearest of each node, found anew."""
    found = []
    for centroids, span in zip((view.user_centroids, view.item_centroids), SPANS, strict=True):
        again, own, _ = lloyd(table[span], centroids)
        assert_close(centroids, again, rtol=1e-7, atol=1e-9)
        found.append((centroids.clone(), own))
    return found


@pytest.mark.parametrize("contrast_layer", [1, 2, 3])
def test_loss_and_gradient(contrast_layer):
    """Repeated anchors count twice. Denominators are layer 0 of all users (items), and all centroids of the kind; centroids have no
    gradient. Before the warm-up is over the prototypes' term is 0."""
    config = ncl.Config(**{**SMALL, "contrast_layer": contrast_layer})
    model = ncl.build(config, dense.log(), rng=dense.generator(0)).double()
    view = model.contrasts[1].views
    table = model.encoder.embedding.detach().clone()
    for epoch in (1, 2):
        view.start_epoch(dense.inputs(), epoch, dense.generator(1))
        dense.agree(
            model,
            dense.inputs(),
            lambda leaf, rng, epoch=epoch: terms(leaf, config, clusters_of(view, table) if epoch == 2 else []),
        )


def test_three_epochs_of_adam():
    """Two steps each. The k-means at the start of an epoch, on the rows as they are then, serves both of its steps."""
    config, rate = ncl.Config(**SMALL), 0.05
    model = ncl.build(config, dense.log(), rng=dense.generator(0)).double()
    table = model.encoder.embedding.detach().clone().requires_grad_()
    adam = torch.optim.Adam([table], lr=rate)
    epochs = fit(
        model, dense.inputs(), step=PlainStep(model, rate), batches=lambda rng: iter([dense.BATCH] * 2), streams=Streams(0), epochs=3
    )  # fmt: skip
    for epoch in epochs:
        clusters = clusters_of(model.contrasts[1].views, table.detach()) if epoch.number > 1 else []
        found = []
        for _ in range(2):
            adam.zero_grad()
            found.append(terms(table, config, clusters))
            sum(found[-1].values()).backward()
            adam.step()
        for name, value in epoch.terms.items():
            assert value == pytest.approx((found[0][name] + found[1][name]).item() / 2, rel=1e-6), name
    assert epoch.terms["prototypes"] > 0
    assert_close(model.encoder.embedding.detach(), table.detach(), rtol=1e-6, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_a_cut_run_goes_on_bit_for_bit(tmp_path, cut):
    """Centroids move at epochs 2 and 4; those of epoch 2 serve in epoch 3 and are where epoch 4 starts from."""
    csv = toy_csv(tmp_path / "log.csv")
    settings = {
        "dim": 8,
        "batch_size": 64,
        "learning_rate": 0.02,
        "epochs": 5,
        "num_clusters": 5,
        "warm_up": 1,
        "cluster_every": 2,
    }

    def stop(kind, what):
        if kind == "epoch" and what["epoch"] == cut:
            raise KeyboardInterrupt

    whole = graphcl.train("ncl", csv, out=tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        graphcl.train("ncl", csv, out=tmp_path / "parts", observe=stop, **settings)
    resumed = graphcl.train("ncl", csv, out=tmp_path / "parts", resume=True, **settings)
    weights = [(run.path / "model.safetensors").read_bytes() for run in (whole, resumed)]
    assert weights[0] == weights[1]
    assert whole.result["metrics"] == resumed.result["metrics"]
    lines = [
        [json.loads(line)["terms"] for line in (run.path / "metrics.jsonl").read_text().splitlines()] for run in (whole, resumed)
    ]
    assert lines[0] == lines[1]
    assert [terms["prototypes"] > 0 for terms in lines[0]] == [False, True, True, True, True]


def test_more_layers_than_there_are():
    for number in (0, 4):
        with pytest.raises(ValueError, match=f"contrast_layer must lie between 1 and num_layers, 3, got {number}"):
            ncl.build(ncl.Config(contrast_layer=number), dense.log(), rng=dense.generator(0))


def test_clusters_move_as_often_as_is_set():
    model = ncl.build(ncl.Config(**{**SMALL, "cluster_every": 3}), dense.log(), rng=dense.generator(0))
    assert (model.contrasts[1].views.every, model.contrasts[1].views.warm_up) == (3, 1)
