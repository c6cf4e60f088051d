"""A recipe's loss and gradient on a CUDA device are those on the CPU, with the same draws."""

import pytest
import torch
from torch.testing import assert_close

from graphcl.contracts import Batch, Part
from graphcl.graph import bipartite
from graphcl.recipes import configure
from tests import dense

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
