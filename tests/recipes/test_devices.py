"""A recipe's loss and gradient on a CUDA device are those on the CPU, with the same draws."""

from typing import get_args

import pytest
import torch
from torch.testing import assert_close

from graphcl import phase
from graphcl.contracts import Batch, Part
from graphcl.graph import bipartite
from graphcl.rank import top_k
from graphcl.recipes import configure, lightgcn
from graphcl.recipes.denominator import Kind
from tests import dense
from tests.histories import histories, prefix_batch, user_batch

RECIPES = ("lightgcn", "lightgcnpp", "sgl", "simgcl", "xsimgcl", "ncl", "lightgcl", "lightgcl_paper")
APPROXIMATE = [f"{name} {kind}" for name in ("sgl", "lightgcl") for kind in get_args(Kind) if kind != "exact"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", [*RECIPES, *APPROXIMATE])
def test_losses_agree(name):
    """Views hold operators, which ``model.to`` does not know: they have to follow the main pass by themselves."""
    name, *negatives = name.split()
    recipe = configure.find(name)
    settings = {"rank": 2} if name.startswith("lightgcl") else {"num_clusters": 3, "warm_up": 0} if name == "ncl" else {}
    if negatives:
        settings |= {"negatives": negatives[0], "num_negatives": 4}
    config = recipe.Config(dim=dense.WIDTH, **settings)
    inputs = vars(recipe)["inputs"](config, dense.log()) if "inputs" in vars(recipe) else bipartite(dense.log())
    found = []
    for device in ("cpu", "cuda"):
        model = recipe.build(config, dense.log(), rng=dense.generator(0)).to(device)
        graph, rng = inputs.to(device), dense.generator(1)
        for part in model.modules():
            if isinstance(part, Part):
                part.start_epoch(graph, 1, rng)
        columns = (dense.BATCH.users, dense.BATCH.positives, dense.BATCH.negatives)
        terms = model.losses(graph, Batch(*(c.to(device) for c in columns)), rng)
        grads = torch.autograd.grad(sum(terms.values()), list(model.parameters()))
        found.append([t.detach().cpu() for t in (*terms.values(), *grads)])
    assert_close(*found, rtol=1e-4, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_lists_agree():
    """Users of the log and histories from outside it; scores of all items are distinct."""
    data, found = dense.log(), []
    for device in ("cpu", "cuda"):
        model = lightgcn.build(lightgcn.Config(dim=dense.WIDTH, init=1.0), data, rng=dense.generator(0)).to(device)
        scorer = phase.scorer(model, bipartite(data).to(device))
        known = top_k(scorer, torch.arange(data.num_users), 3, seen=data.matrix)
        found.append([torch.from_numpy(part) for part in (*known, *top_k(scorer, data.matrix[:2], 3, seen=data.matrix[:2]))])
    assert_close(*found, rtol=1e-4, atol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("batch", [user_batch(), prefix_batch()], ids=["user", "prefix"])
@pytest.mark.parametrize(
    "name", ["sasrec", "sasrec sampled", "sasrec gbce", "sasrec bce", "cl4srec", "duorec", "mclrec", "sracl"]
)
def test_losses_of_sequences_agree(name, batch):
    """Without dropout, whose draws are each device's own."""
    recipe, loss = configure.find(name.split()[0]), [*name.split(), "ce"][1]
    settings = {"semantics": "random", "attention_weights_dropout": 0.0, "num_neighbours": 2} if name == "sracl" else {}
    config = recipe.Config(dim=8, max_length=6, dropout=0.0, attention_dropout=0.0, loss=loss, num_negatives=3, **settings)
    found = []
    for device in ("cpu", "cuda"):
        data = histories()
        model = recipe.build(config, data, rng=dense.generator(0)).to(device)
        terms = model.losses(data.to(device), batch.to(device), dense.generator(1))
        grads = torch.autograd.grad(sum(terms.values()), list(model.parameters()))
        found.append([t.detach().cpu() for t in (*terms.values(), *grads)])
    assert_close(*found, rtol=1e-4, atol=1e-5)
