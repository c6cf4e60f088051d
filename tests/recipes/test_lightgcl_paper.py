"""LightGCL's paper version against dense float64: loss, gradient, schedule."""

import pytest
import torch
from torch.testing import assert_close

from graphcl.ops import draw_key, uniform
from graphcl.recipes import lightgcl_paper
from graphcl.recipes.parts import step_of
from graphcl.streams import Streams
from graphcl.train import fit
from tests import dense
from tests.recipes.test_lightgcl import truncated


def test_constants():
    config = lightgcl_paper.Config()
    assert (config.dim, config.num_layers, config.rank, config.dropout) == (32, 2, 5, 0.25)
    assert (config.temperature, config.weight, config.decay, config.anchor_dropout) == (0.5, 1e-7, 1e-4, 0.5)
    assert (config.batch_size, config.epoch_users, config.samples, config.slope) == (256, 30_000, 40, 0.5)
    assert (config.learning_rate, config.rate_decay, config.lowest_rate) == (1e-3, 0.98, 5e-4)


def leaky(x):
    return torch.where(x > 0, x, 0.5 * x)


@pytest.mark.parametrize("svd", ["normalised", "raw"])
@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_loss_and_gradient(svd, similarity):
    config = lightgcl_paper.Config(
        dim=dense.WIDTH, num_layers=2, rank=2, svd=svd, similarity=similarity, weight=0.7, temperature=0.25, decay=0.06, dropout=0.5,
        batch_size=3,
    )  # fmt: skip
    model = lightgcl_paper.build(config, dense.log(), rng=dense.generator(0)).double()
    graph = dense.inputs()
    view = model.contrasts[0].views
    decomposed = dense.adjacency() if svd == "raw" else dense.normalised(dense.adjacency())
    eye = torch.eye(dense.NODES)
    assert_close((view.op @ eye).double(), truncated(decomposed, 2), rtol=0, atol=2e-6)
    view.op = lightgcl_paper.svd_view(graph.adj if svd == "raw" else graph.ops[0], graph.kinds, 2)
    if svd == "raw":  # the pattern's ones are float32
        view.op = type(view.op)(view.op.left.double(), view.op.right.double())

    def expected(table, rng):
        ops = [dense.entries(op) for op in model.change(graph, rng).ops]
        layers, gains = [table], []
        for op in ops:
            gains.append(leaky(op @ layers[-1]))
            layers.append(gains[-1] + layers[-1])
        final = sum(layers)
        low = (view.op @ torch.eye(dense.NODES, dtype=torch.float64)).detach()
        total = 0
        for number, (gain, weight) in enumerate(zip(gains, view.weights, strict=True)):
            key = dense.unit(leaky(low @ layers[number])) @ weight
            key, query = dense.unit(key) if similarity == "cosine" else key, dense.unit(gain)
            for rows in (
                dense.unique(dense.BATCH.users),
                dense.unique(torch.cat([dense.BATCH.positives, dense.BATCH.negatives])),
            ):
                stays = uniform(draw_key(rng), torch.tensor(rows))[:, 0] >= 0.5
                for b, kept in zip(rows, stays.tolist(), strict=True):
                    logits = torch.stack([(query[b] * key[k]).sum() / 0.25 for k in rows])
                    total = total + kept * (torch.logsumexp(logits, 0) - (query[b] * key[b]).sum() / 0.25)
        u, i, j = final[dense.BATCH.users], final[dense.BATCH.positives], final[dense.BATCH.negatives]
        hinge = sum(max(0, 1 - m) for m in ((u * i).sum(1) - (u * j).sum(1))) / 3
        squares = table.square().sum() + sum(w.square().sum() for w in view.weights)
        return {"hinge": hinge, "decay": 0.03 * squares, "contrast": 0.7 * total}

    dense.agree(model, graph, expected)


def test_isolated_negative_keeps_its_gradient_in_single_precision():
    """Item 5 has no edges and gains nothing in a layer. Its zero row's gradient used to be enlarged 1e12 times; the residual layer
    adds that to its negative, and in float32 nothing else in the sum survived."""
    config = lightgcl_paper.Config(dim=dense.WIDTH, rank=2, dropout=0.0, weight=1.0, anchor_dropout=0.0, batch_size=1)
    assert 10 in dense.BATCH.negatives
    grads = []
    for dtype, graph in ((torch.float32, lightgcl_paper.bipartite(dense.log())), (torch.float64, dense.inputs())):
        model = lightgcl_paper.build(config, dense.log(), rng=dense.generator(0)).to(dtype)
        view = model.contrasts[0].views
        view.op = type(view.op)(view.op.left.to(dtype), view.op.right.to(dtype))
        with torch.no_grad():
            model.encoder.embedding *= 0.3  # within the hinge's margin
        terms = model.losses(graph, dense.BATCH, dense.generator(0))
        grads += torch.autograd.grad(sum(terms.values()), model.encoder.embedding)
    assert grads[1][10].abs().min() > 1e-3
    assert_close(grads[0].double(), grads[1], rtol=1e-3, atol=1e-5)


def test_learning_rate_falls_to_its_floor():
    config = lightgcl_paper.Config(dim=dense.WIDTH, rank=2, epoch_users=1)
    model = lightgcl_paper.build(config, dense.log(), rng=dense.generator(0))
    step = step_of(lightgcl_paper, config, model)
    rates = []
    for number in (1, 2, 35, 36, 90):
        step.start_epoch(number)
        rates.append(step.optimiser.param_groups[0]["lr"])
    assert rates == pytest.approx([1e-3, 0.98e-3, 0.98**34 * 1e-3, 5e-4, 5e-4], rel=1e-12)


def test_the_whole_training_runs_and_resumes_exactly():
    """Two epochs at once, or one, a checkpoint, and another: the same parameters, the same rate."""

    def begin():
        streams = Streams(5)
        config = lightgcl_paper.Config(dim=dense.WIDTH, rank=2, batch_size=2)
        model = lightgcl_paper.build(config, dense.log(), rng=streams["init"])
        return model, step_of(lightgcl_paper, config, model), lightgcl_paper.batches(config, dense.log()), streams

    def train(state, epochs, done=0):
        model, step, batches, streams = state
        for _ in fit(model, graph, step=step, batches=batches, streams=streams, epochs=epochs, done=done):
            pass

    graph = lightgcl_paper.bipartite(dense.log())
    whole, first, second = begin(), begin(), begin()
    train(whole, 2)
    train(first, 1)
    for mine, theirs in zip((second[0], second[1], second[3]), (first[0], first[1], first[3]), strict=True):
        mine.load_state_dict(theirs.state_dict())
    train(second, 2, done=1)
    for a, b in zip(whole[0].parameters(), second[0].parameters(), strict=True):
        assert torch.equal(a, b)
    assert second[1].optimiser.param_groups[0]["lr"] == pytest.approx(0.98e-3)
