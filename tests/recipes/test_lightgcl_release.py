"""LightGCL on Last.fm beside the release's own steps, written out with dense matrices: an epoch of Adam and a bit at the recipe's batch.

Everything of the reference is dense float64: the normalised matrix and its sketch (``torch.svd_lowrank``, as the release calls it),
logits of every anchor, repeats and all, against every node, and Adam by hand.
"""

import os
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from graphcl.data.sample import Triples
from graphcl.graph import bipartite
from graphcl.rank import DotScorer, evaluate
from graphcl.recipes import lightgcl
from graphcl.runs import load_data
from graphcl.streams import Streams
from graphcl.train import PlainStep, fit
from tests import dense

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.path.isdir(os.path.join(os.environ.get("GRAPHCL_DATA", ""), "general", "lastfm")),
        reason="$GRAPHCL_DATA/general/lastfm is not here",
    ),
]
CONFIG = lightgcl.Config(dim=16, learning_rate=0.02)  # all else as released; narrow and fast, for the test's sake


class Trained(NamedTuple):
    losses: list[dict[str, float]]  # of each step
    embeddings: Tensor  # [N, d]
    recall: float  # @20


@pytest.fixture(scope="module")
def log():
    return load_data("lastfm", "as-published")[0]


@pytest.fixture(scope="module")
def batches(log):
    rng = dense.generator(5)
    draw = Triples(log.train, CONFIG.batch_size)
    return [*draw(rng), *draw(rng)][:12]  # a dense step takes two seconds


@pytest.fixture(scope="module")
def reference(log, batches) -> Trained:
    users, tau = log.train.num_users, CONFIG.temperature
    known = torch.from_numpy(log.train.matrix.toarray() > 0)
    matrix = known.double()
    left, right = (matrix.sum(side).clamp_min(1).rsqrt() for side in (1, 0))
    matrix = left[:, None] * matrix * right
    table, rng = start(log)
    with torch.random.fork_rng():
        torch.set_rng_state(rng.get_state())
        u, s, v = torch.svd_lowrank(matrix, q=CONFIG.rank, niter=2)
    low = u * s @ v.T
    table = table.double().requires_grad_()
    first, second, losses, clamped = torch.zeros_like(table), torch.zeros_like(table), [], []

    def both(table):
        """Sums of the layers through the graph and of what its layers send through the sketch."""
        u, i = table[:users], table[users:]
        main, relayed = [(u, i)], [(u, i)]
        for _ in range(CONFIG.num_layers):
            relayed.append((low @ i, low.T @ u))
            u, i = matrix @ i, matrix.T @ u
            main.append((u, i))
        return [[sum(layer[kind] for layer in layers) for kind in (0, 1)] for layers in (main, relayed)]

    for number, batch in enumerate(batches, start=1):
        (e_user, e_item), (g_user, g_item) = both(table)
        u, i, j = batch.users, batch.positives - users, batch.negatives - users
        margin = (e_user[u] * e_item[i]).sum(1) - (e_user[u] * e_item[j]).sum(1)
        contrast = 0
        for rows, g, e in ((u, g_user, e_user), (torch.cat([i, j]), g_item, e_item)):
            positive = (g[rows] * e[rows]).sum(1) / tau
            clamped.append(float((positive.abs() > 5).double().mean()))
            contrast = contrast + (((g[rows] / tau) @ e.T).exp_().sum(1) + 1e-8).log().mean() - positive.clamp(-5, 5).mean()
        terms = {
            "bpr": -margin.sigmoid().log().mean(),
            "decay": CONFIG.decay * table.square().sum(),
            "contrast": CONFIG.weight * contrast,
        }
        (gradient,) = torch.autograd.grad(sum(terms.values()), table)
        losses.append({name: value.item() for name, value in terms.items()})
        with torch.no_grad():
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            table -= CONFIG.learning_rate * (first / (1 - 0.9**number)) / ((second / (1 - 0.999**number)).sqrt() + 1e-8)
    assert min(clamped) < 0.1  # or the clamp, which stops gradients, was not seen on both sides
    assert max(clamped) > 0.2
    with torch.no_grad():
        (e_user, e_item), _ = both(table)
    scores = (e_user @ e_item.T).masked_fill(known, -torch.inf)
    hits = []
    for user, row in enumerate(log.test.matrix):
        if row.nnz:
            hits.append(len(set(row.indices) & set(scores[user].topk(20).indices.tolist())) / row.nnz)
    return Trained(losses, torch.cat([e_user, e_item]), float(np.mean(hits)))


def start(log) -> tuple[Tensor, torch.Generator]:
    """The table that the recipe draws, and its generator as it stands when the sketch is drawn."""
    rng = dense.generator(0)
    tables = []
    for rows in (log.train.num_users, log.train.num_items):
        bound = (6 / (rows + CONFIG.dim)) ** 0.5
        tables.append(torch.empty(rows, CONFIG.dim).uniform_(-bound, bound, generator=rng))
    return torch.cat(tables), rng


def trained(log, batches, dtype: torch.dtype) -> Trained:
    model, graph = lightgcl.build(CONFIG, log.train, rng=dense.generator(0)).to(dtype), bipartite(log.train)
    if dtype == torch.float64:
        graph = dense.exact(graph)
        view = model.contrasts[0].views
        view.op = lightgcl.svd_view(graph.ops[0], graph.kinds, CONFIG.rank, CONFIG.svd, rng=start(log)[1])
    step, losses = PlainStep(model, CONFIG.learning_rate), []

    def recorded(*args):
        terms = step(*args)
        losses.append({name: value.item() for name, value in terms.items()})
        return terms

    for _ in fit(model, graph, step=recorded, batches=lambda rng: iter(batches), streams=Streams(0), epochs=1):
        pass
    table = model.embed(graph)
    by = DotScorer(table[graph.kinds["user"]], table[graph.kinds["item"]])
    report = evaluate(by, log.test.matrix, mask=log.train.matrix, train=log.train.matrix, ks=(20,), metrics=("recall",))
    return Trained(losses, table, report.means["recall@20"])


@pytest.mark.parametrize(
    ("dtype", "loss", "embedding", "recall"),
    [(torch.float64, 1e-10, 1e-7, 1e-12), (torch.float32, 1e-5, 1e-3, 1e-3)],
    ids=["float64", "float32"],
)
def test_every_step_is_the_releases(log, batches, reference, dtype, loss, embedding, recall):
    """``loss``: relative, of each term in each step. ``embedding``: share of the largest entry. ``recall``: absolute."""
    assert len(batches) == len(reference.losses) == 12
    found = trained(log, batches, dtype)
    for number, (mine, theirs) in enumerate(zip(found.losses, reference.losses, strict=True)):
        assert mine == pytest.approx(theirs, rel=loss), f"step {number + 1}"
    scale = reference.embeddings.abs().max()
    assert_close(found.embeddings.double() / scale, reference.embeddings / scale, rtol=0, atol=embedding)
    assert found.recall == pytest.approx(reference.recall, abs=recall)
    assert reference.recall > 0.05  # chance is 0.004
