"""What a pass gathers and how often, which anchors count how often, and what leaves a model."""

from dataclasses import replace

import pytest
import torch
from scipy import sparse
from torch.testing import assert_close

from graphcl import contracts
from graphcl.encoders import LightGCN
from graphcl.encoders.readout import layer, mean, total
from graphcl.objectives import AllKeys, InBatch, InfoNCE
from graphcl.ops import Sparse
from graphcl.perturb.edges import drop_edges
from graphcl.perturb.noise import SignNoise
from graphcl.recipes.model import Contrast, Model
from graphcl.recipes.ranking import Ranking
from graphcl.views import CrossLayer, TwoNoises
from tests import dense


def lightgcn(num_layers: int = 3) -> LightGCN:
    sizes = {"user": dense.USERS, "item": dense.ITEMS}
    return LightGCN(sizes, dense.WIDTH, num_layers, rng=dense.generator(0)).double()


ANCHORS = {  # the users and items that a batch is about, as often as they count
    "positives": (dense.unique(dense.BATCH.users), dense.unique(dense.BATCH.positives)),
    "positives-repeated": (dense.BATCH.users.tolist(), dense.BATCH.positives.tolist()),
    "all": (dense.unique(dense.BATCH.users), dense.unique(torch.cat([dense.BATCH.positives, dense.BATCH.negatives]))),
    "all-repeated": (dense.BATCH.users.tolist(), torch.cat([dense.BATCH.positives, dense.BATCH.negatives]).tolist()),
}


@pytest.mark.parametrize("rows", ANCHORS)
@pytest.mark.parametrize("negatives", [InBatch(), AllKeys(13)], ids=["batch", "all"])
@pytest.mark.parametrize("weight", [0.7, {"user": 0.3, "item": 2.0}], ids=["one weight", "by kind"])
def test_anchors_and_weights(rows, negatives, weight):
    """Counts stand for repeats: the loss and its gradient are those of a batch with its rows written out."""
    contrast = Contrast(CrossLayer(layer(2), layer(0)), InfoNCE(0.25, negatives=negatives), weight, rows=rows)
    model = Model(lightgcn(2), mean(), lambda forward, model: {}, [contrast])

    def expected(table, rng):
        layers = dense.propagate(table, dense.normalised(dense.adjacency()), 2)
        value = 0
        for kind, anchors, span in zip(("user", "item"), ANCHORS[rows], (dense.USER_ROWS, dense.ITEM_ROWS), strict=True):
            among = range(span.start, span.stop) if isinstance(negatives, AllKeys) else sorted(set(anchors))
            of_kind = weight if isinstance(weight, float) else weight[kind]
            value = value + of_kind * dense.nce(layers[2], layers[0], anchors, among, 0.25)
        return {"contrast": value}

    dense.agree(model, dense.inputs(), expected)


def test_each_row_is_gathered_once(monkeypatch):
    """Task, decay and two contrasts read layers 0 to 3 of one pass: the rows that anybody reads are taken once, of all layers, and
    the last layer is computed for them alone. (Readouts over all rows first cost 87 ms a step on Gowalla; rows first costs 5.)"""
    gathered, made = [], []
    gather, rows = contracts.gather_rows, Sparse.rows
    monkeypatch.setattr(contracts, "gather_rows", lambda table, rows: gathered.append(rows) or gather(table, rows))
    monkeypatch.setattr(Sparse, "rows", lambda op, ids: made.append(ids) or rows(op, ids))
    contrasts = [
        Contrast(CrossLayer(mean(first=1), layer(1)), InfoNCE(0.2), 0.1, name="first"),
        Contrast(CrossLayer(total(first=0), layer(3)), InfoNCE(0.2), 0.1, rows="all", name="second"),
    ]
    model = Model(lightgcn(), mean(first=1), Ranking(0.1, "input"), contrasts)
    terms = model.losses(dense.inputs(), dense.BATCH, dense.generator(0))
    assert list(terms) == ["bpr", "decay", "first", "second"]
    batch = torch.cat([dense.BATCH.users, dense.BATCH.positives, dense.BATCH.negatives]).unique()
    assert len(made) == 1
    assert torch.equal(made[0], batch)
    assert gathered == []  # from no whole table


def test_main_runs_once_and_not_unasked():
    encoder = lightgcn()
    calls = []
    encoder.register_forward_hook(lambda *_: calls.append(1))
    views = [CrossLayer(mean(), layer(1)), TwoNoises(SignNoise(0.1), mean()), CrossLayer(mean(), layer(2))]
    contrasts = [Contrast(v, InfoNCE(0.2), 1.0, name=str(n), rows="all-repeated") for n, v in enumerate(views)]
    model = Model(encoder, mean(), Ranking(0.1), contrasts)
    model.losses(dense.inputs(), dense.BATCH, dense.generator(0))
    assert len(calls) == 1 + 2
    calls.clear()
    Model(encoder, mean(), lambda forward, model: {}, contrasts[1:2]).losses(dense.inputs(), dense.BATCH, dense.generator(0))
    assert len(calls) == 2  # nobody reads the main pass; looking whether a side is it must not run it


def test_kinds_in_another_order():
    """All keys of a kind are found by its name, not by its place among the kinds."""
    turned = replace(dense.inputs(), kinds={"item": dense.ITEM_ROWS, "user": dense.USER_ROWS})
    contrast = Contrast(CrossLayer(layer(2), layer(1)), InfoNCE(0.2, negatives=AllKeys()), 1.0)
    model = Model(lightgcn(2), mean(), lambda forward, model: {}, [contrast])
    losses = [model.losses(graph, dense.BATCH, dense.generator(0))["contrast"] for graph in (turned, dense.inputs())]
    assert_close(*losses, rtol=1e-12, atol=0)


def test_embed_has_no_noise_and_no_change():
    model = Model(
        lightgcn(), mean(), Ranking(0.1),
        perturb=SignNoise(0.5), change=lambda graph, rng: dense.exact(drop_edges(graph, 0.5, rng)),
    ).train()  # fmt: skip
    expected = dense.average(dense.propagate(model.encoder.embedding.detach(), dense.normalised(dense.adjacency()), 3))
    for _ in range(2):
        assert_close(model.embed(dense.inputs()), expected, rtol=1e-12, atol=1e-14)
        assert model.training
    assert not model.embed(dense.inputs()).requires_grad
    assert not model.layers(dense.inputs())[-1].requires_grad  # though layers may be lazy
    terms = [model.losses(dense.inputs(), dense.BATCH, dense.generator(seed))["bpr"].item() for seed in (0, 1)]
    assert terms[0] != terms[1]
    model.eval()
    terms = [model.losses(dense.inputs(), dense.BATCH, dense.generator(seed))["bpr"] for seed in (0, 1)]
    assert_close(terms, [dense.bpr(expected)] * 2, rtol=1e-12, atol=0)
    assert not model.training


def test_fold_embeds_histories():
    """A newcomer with items 1 and 3: degree 2, nothing at layer 0, and every layer comes from the items' layer below."""
    model = Model(lightgcn(2), mean(), Ranking(0.1))
    layers = dense.propagate(model.encoder.embedding.detach(), dense.normalised(dense.adjacency()), 2)
    degree = dense.adjacency().sum(1)
    items = [dense.USERS + 1, dense.USERS + 3]
    expected = sum(sum(h[i] / (2 * degree[i]).sqrt() for i in items) for h in layers[:2]) / 3
    history = sparse.csr_matrix(([1.0, 1.0], ([0, 0], [1, 3])), shape=(2, dense.ITEMS))
    found = model.fold(dense.inputs(), model.layers(dense.inputs()), history)
    assert_close(found[0], expected, rtol=1e-10, atol=1e-12)
    assert_close(found[1], torch.zeros_like(expected))


def test_unknown_rows_are_refused():
    with pytest.raises(
        ValueError, match="rows must be one of positives, positives-repeated, all, all-repeated, got 'all_repeated'"
    ):
        Contrast(CrossLayer(mean(), layer(0)), InfoNCE(0.2), 1.0, rows="all_repeated")


def test_two_contrasts_of_one_name_are_refused():
    """The second's loss would have taken the first's place."""
    twice = [Contrast(CrossLayer(mean(), layer(k)), InfoNCE(0.2), 1.0) for k in (0, 1)]
    with pytest.raises(ValueError, match="different names, got contrast, contrast"):
        Model(lightgcn(), mean(), Ranking(0.1), twice)
