"""The ten choices on which published recommenders differ silently, and which decide whether numbers match. One test each."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import sparse
from torch.testing import assert_close

from graphcl.contracts import Batch, Part
from graphcl.data.protocol import PROTOCOLS, plan
from graphcl.data.split import split
from graphcl.graph import bipartite
from graphcl.interactions import Interactions, Vocabulary
from graphcl.objectives import AllKeys, InBatch
from graphcl.ops import truncated_svd
from graphcl.rank import DotScorer, evaluate
from graphcl.recipes import RECIPES, configure, lightgcl, lightgcl_paper, lightgcn, lightgcnpp, ncl, sgl, simgcl, xsimgcl
from graphcl.recipes.lightgcl import svd_view
from graphcl.recipes.model import Model
from tests import dense

GRAPH_RECIPES = (lightgcn, lightgcnpp, sgl, simgcl, xsimgcl, ncl, lightgcl, lightgcl_paper)


def build(recipe, **settings) -> tuple[Model, object]:
    """A recipe's model in float64 on the toy log, its epoch begun, and its graph."""
    names = {f.name for f in dataclasses.fields(recipe.Config)}
    rank = {"rank": 2} if "rank" in names else {}
    clusters = {"num_clusters": 2, "warm_up": 0} if "warm_up" in names else {}
    config = recipe.Config(dim=dense.WIDTH, **{**rank, **clusters, **settings})
    model = recipe.build(config, dense.log(), rng=dense.generator(0)).double().train()
    graph = vars(recipe)["inputs"](config, dense.log()) if "inputs" in vars(recipe) else bipartite(dense.log())
    graph = dense.exact(graph)
    for contrast in model.contrasts:
        view = contrast.views
        if recipe is sgl:
            view.change = lambda graph, rng, change=view.change: dense.exact(change(graph, rng))
        if isinstance(view, Part):
            view.start_epoch(graph, 1, dense.generator(1))
        if rank:
            view.op = svd_view(graph.ops[0], graph.kinds, 2)
    return model, graph


def losses(model, graph, batch=dense.BATCH) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in model.losses(graph, batch, dense.generator(2)).items()}


def test_01_no_self_loops_train_degrees_zero_for_isolated_nodes_top_singular_value_one():
    """Degrees are of the pairs that are handed over, each once: the toy log's repeat adds nothing."""
    (op,) = bipartite(dense.log()).ops
    matrix = torch.from_numpy(op.to_scipy().toarray())
    assert_close(matrix, dense.normalised(dense.adjacency()).float())
    assert matrix.diagonal().abs().max() == 0
    isolated = [4, dense.USERS + 5]
    assert matrix[isolated].abs().max() == matrix[:, isolated].abs().max() == 0
    assert matrix[dense.USER_ROWS, dense.USER_ROWS].abs().max() == matrix[dense.ITEM_ROWS, dense.ITEM_ROWS].abs().max() == 0
    block = op.from_scipy(op.to_scipy()[dense.USER_ROWS, dense.ITEM_ROWS])
    found = truncated_svd(block, 1)
    assert found.s[0].item() == pytest.approx(1, abs=1e-6)
    degree = dense.adjacency().sum(1)
    direction = degree[dense.USER_ROWS].sqrt() / degree[dense.USER_ROWS].sum().sqrt()
    assert_close(found.u[:, 0].double().abs(), direction, rtol=0, atol=1e-6)


def test_02_readout_differs_by_model():
    """Mean or sum, with or without layer 0; the same at test as in training."""

    def layers_of(model, count):
        return dense.propagate(model.encoder.embedding.detach(), dense.normalised(dense.adjacency()), count)

    wanted = {
        lightgcn: lambda m: dense.average(layers_of(m, 3)),
        sgl: lambda m: dense.average(layers_of(m, 3)),
        simgcl: lambda m: dense.average(layers_of(m, 3)[1:]),
        xsimgcl: lambda m: dense.average(layers_of(m, 3)[1:]),
        ncl: lambda m: dense.average(layers_of(m, 3)),
        lightgcl: lambda m: sum(layers_of(m, 2)),
    }
    for recipe, readout in wanted.items():
        noise = {"eps": 0.0} if recipe is xsimgcl else {}
        model, graph = build(recipe, **noise)
        assert_close(model.embed(graph), readout(model), rtol=1e-12, atol=1e-14)
        assert_close(losses(model, graph)["bpr"], dense.bpr(readout(model)), rtol=1e-12, atol=1e-14)
    model, graph = build(lightgcnpp)
    op, table = dense.normalised(dense.adjacency(), 0.6, -0.1), model.encoder.embedding.detach()
    first = op @ dense.unit(table)
    assert_close(model.embed(graph), 0.2 * table + 0.4 * (first + op @ dense.unit(first)), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("recipe", [lightgcn, lightgcnpp, sgl, simgcl, xsimgcl, ncl, lightgcl])
def test_03_every_term_has_the_same_reduction(recipe):
    """A batch written twice is the same batch to a mean. A summed contrast beside a mean BPR would double here, which is why one
    port's best weight is 1e-5 where the paper's is 0.5. (SELFRec's decay, a norm over B, goes with 1/sqrt(2).)"""
    model, graph = build(recipe)
    b = dense.BATCH
    twice = Batch(*(torch.cat([c, c]) for c in (b.users, b.positives, b.negatives)))
    once, doubled = losses(model, graph), losses(model, graph, twice)
    assert once.keys() == doubled.keys()
    for name in once:
        factor = 2**-0.5 if name == "decay" and recipe in (simgcl, xsimgcl) else 1
        assert_close(doubled[name], factor * once[name], rtol=1e-10, atol=0)


def test_04_whose_keys_are_negatives():
    """SGL: all users (items) by cosine. SimGCL, XSimGCL: unique users and unique positives of the batch, apart. LightGCL: all, by
    dot products, without normalisation. LightGCL's paper: the batch's users and all its sampled items."""
    wanted = {
        sgl: ("cosine", AllKeys, "positives-repeated", 1),
        ncl: ("cosine", AllKeys, "positives-repeated", 1),
        simgcl: ("cosine", InBatch, "positives", 1),
        xsimgcl: ("cosine", InBatch, "positives", 1),
        lightgcl: ("dot", AllKeys, "all-repeated", 1),
        lightgcl_paper: ("cosine", InBatch, "all", 2),
    }
    for recipe, (similarity, negatives, rows, num_layers) in wanted.items():
        model, graph = build(recipe)
        contrast = model.contrasts[0]  # NCL has another, with centroids
        assert (contrast.objective.similarity, type(contrast.objective.negatives), contrast.rows) == (similarity, negatives, rows)
        compared = []
        inner = contrast.objective.negatives

        def spy(query, key, positives, *, inner=inner, compared=compared, **options):
            compared.append(len(key) if isinstance(inner, AllKeys) else len(positives.unique()))
            assert len(positives.unique()) == len(positives)  # without this, repeats of a node are its own negatives
            return inner(query, key, positives, **options)

        contrast.objective = dataclasses.replace(contrast.objective, negatives=spy)
        losses(model, graph)
        users = {AllKeys: dense.USERS, InBatch: 3}[negatives]
        items = {"positives": 3, "all": 4}.get(rows, dense.ITEMS)
        assert compared == [users, items] * num_layers


def test_05_what_decays():
    """Layer 0's rows of user, positive and negative, squared and halved, over B; or a norm that is not squared, of final rows
    without negatives; or all parameters."""
    for recipe in (lightgcn, lightgcnpp, sgl, ncl):
        model, graph = build(recipe, decay=0.5)
        table = model.encoder.embedding.detach()
        assert_close(losses(model, graph)["decay"], 0.5 * dense.half_squares(table), rtol=1e-12, atol=0)
    for recipe in (simgcl, xsimgcl):
        model, graph = build(recipe, decay=0.5, eps=0.0)
        final = model.embed(graph)
        assert_close(losses(model, graph)["decay"], 0.5 * dense.frobenius(final), rtol=1e-12, atol=0)
    for recipe, factor in ((lightgcl, 0.5), (lightgcl_paper, 0.25)):  # Adam's weight decay is half a squared norm
        model, graph = build(recipe, decay=0.5)
        squares = sum(p.detach().square().sum() for p in model.parameters())
        assert_close(losses(model, graph)["decay"], factor * squares, rtol=1e-12, atol=0)


def test_06_initial_tables():
    """LightGCN draws from N(0, 0.1^2); what contrasts draws uniformly, within sqrt(6 / (rows + d)) of each table's own rows."""
    rng = np.random.default_rng(0)
    users, items = 400, 2000
    big = Interactions(
        rng.integers(0, users, 4000).astype(np.int32), rng.integers(0, items, 4000).astype(np.int32),
        Vocabulary(np.arange(users)), Vocabulary(np.arange(items)),
    )  # fmt: skip
    for recipe in GRAPH_RECIPES:
        table = recipe.build(recipe.Config(dim=16), big, rng=dense.generator(0)).encoder.embedding.detach()
        if recipe in (lightgcn, lightgcnpp):
            assert table.std().item() == pytest.approx(0.1, rel=0.02)
            assert table.abs().max() > 0.3  # not uniform
            continue
        for part, rows in ((table[:users], users), (table[users:], items)):
            bound = (6 / (rows + 16)) ** 0.5
            assert 0.999 * bound < part.abs().max() <= bound
            assert part.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)


def test_07_evaluator():
    """Everything is ranked but what the user has in train; recall is hits / |T|; NDCG is over an ideal list of min(K, |T|); a user
    without test items is skipped."""
    scores = torch.tensor([[9.0, 8, 7, 6, 5], [1, 2, 3, 4, 5], [5, 4, 3, 2, 1], [0.1, 0.2, 0.3, 0.4, 0.5]])
    train = sparse.csr_matrix(np.array([[1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]], dtype=np.float32))
    test = sparse.csr_matrix(np.array([[0, 0, 1, 1, 1], [1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 1, 0]], dtype=np.float32))
    report = evaluate(
        DotScorer(torch.eye(4), scores.T), test, mask=train, train=train, ks=(2,), metrics=("recall", "ndcg")
    )  # fmt: skip
    assert report.users.tolist() == [0, 1, 3]
    assert report.top.tolist() == [[1, 2], [4, 3], [3, 2]]  # item 0 of user 0 and item 4 of user 3 are train
    log2 = np.log2
    np.testing.assert_allclose(report.per_user["recall@2"], [1 / 3, 0, 1])  # not 1 / min(2, 3)
    np.testing.assert_allclose(report.per_user["ndcg@2"], [(1 / log2(3)) / (1 + 1 / log2(3)), 0, 1])
    assert report.means["recall@2"] == pytest.approx((1 / 3 + 0 + 1) / 3)


def test_08_what_chooses_the_epoch():
    """No protocol looks at the test part, except the one that says so wherever it is printed."""
    rng = np.random.default_rng(0)
    users, items = np.repeat(np.arange(12), 10).astype(np.int32), np.concatenate([rng.permutation(30)[:10] for _ in range(12)])
    parts = split(
        Interactions(users, items.astype(np.int32), Vocabulary(np.arange(12)), Vocabulary(np.arange(30))), rule="random"
    )
    assert parts.valid is not None
    for protocol in PROTOCOLS:
        if protocol == "refit":  # two runs, each with a plan of its own
            continue
        made = plan(parts, protocol)
        if protocol == "all":
            assert (made.select, made.selected_on, made.test) == (None, None, None)
        elif protocol == "as-published":
            assert made.select is made.test is parts.test
            assert made.selected_on == "test"
        else:
            assert made.select is parts.valid
            assert made.selected_on == "valid"
            assert made.test is parts.test
            trained = set(zip(made.train.users, made.train.items, strict=True))
            for held_out in (parts.valid, parts.test):
                assert not trained & set(zip(held_out.users, held_out.items, strict=True))


def test_09_lightgcl_is_two_models():
    """The released code and the paper's differ in loss, activation, skip connection, SVD input and ranking loss; each has a name,
    and what is called plain "lightgcl" is the released one."""
    assert configure.find("lightgcl") is lightgcl
    assert configure.find("lightgcl_paper") is lightgcl_paper
    (released, graph), (paper, _) = build(lightgcl), build(lightgcl_paper, dropout=0.0)
    assert set(losses(released, graph)) == {"bpr", "decay", "contrast"}
    assert set(losses(paper, graph)) == {"hinge", "decay", "contrast"}
    op = dense.normalised(dense.adjacency())
    table = released.encoder.embedding.detach()
    assert_close(released.embed(graph), table + op @ table + op @ op @ table, rtol=1e-12, atol=1e-14)
    table = paper.encoder.embedding.detach()

    def leaky(x):
        return torch.where(x > 0, x, 0.5 * x)

    first = table + leaky(op @ table)
    assert_close(paper.embed(graph), table + first + first + leaky(op @ first), rtol=1e-12, atol=1e-14)
    with pytest.raises(ValueError, match="lightgcl"):
        configure.find("lightgcl_papr")
    assert {"lightgcl", "lightgcl_paper"} <= RECIPES.keys()


def test_10_lightgcl_without_its_contrast_is_lightgcn():
    """Its baselines were under-tuned: with weight 0 its own code beats the LightGCN of its table by half. Here weight 0 is LightGCN
    with a summed readout to the last digit, so that the ablation can be run: no trace of the view in loss or gradient."""
    model, graph = build(lightgcl, weight=0.0, decay=0.0)
    plain = Model(model.encoder, model.readout, model.task)
    assert losses(model, graph)["contrast"] == 0
    summed, alone = (
        torch.autograd.grad(sum(m.losses(graph, dense.BATCH, dense.generator(0)).values()), model.encoder.embedding)[0]
        for m in (model, plain)
    )
    assert_close(summed, alone, rtol=1e-12, atol=1e-15)
    twin = lightgcn.build(lightgcn.Config(dim=dense.WIDTH, num_layers=2), dense.log(), rng=dense.generator(0)).double()
    with torch.no_grad():
        twin.encoder.embedding.copy_(model.encoder.embedding)
    assert_close(model.embed(graph), 3 * twin.embed(graph), rtol=1e-12, atol=1e-14)
