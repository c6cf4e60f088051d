"""A recipe's loss and gradient on a CUDA device are those on the CPU, with the same draws."""

import pytest
import torch
from torch.testing import assert_close

from graphcl.contracts import Batch, Part
from graphcl.graph import bipartite
from graphcl.recipes import configure
from tests import dense
from tests.histories import histories, prefix_batch, user_batch

RECIPES = ("lightgcn", "lightgcnpp", "sgl", "simgcl", "xsimgcl", "ncl", "lightgcl", "lightgcl_paper")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", RECIPES)
def test_losses_agree(name):
    """Views hold operators, which ``model.to`` does not know: they have to follow the main pass by themselves."""
    recipe = configure.find(name)
    settings = {"rank": 2} if name.startswith("lightgcl") else {"num_clusters": 3, "warm_up": 0} if name == "ncl" else {}
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
