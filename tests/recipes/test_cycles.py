"""A step's tensors go when it ends: in a cycle they would stay until Python looks for cycles, by number and not by size."""

import gc

import pytest
import torch

from graphcl.graph import Graph
from graphcl.ops import Sparse
from tests.golden.regenerate import steps, trained

VARIANTS = {**trained(), "lightgcl with dropout": ("lightgcl", {"dropout": 0.2})}


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_a_step_leaves_no_tensor_to_the_cycle_collector(name):
    steps(*VARIANTS[name])  # what is made once, kernels among it
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        steps(*VARIANTS[name])
        gc.collect()
        left = [x for x in gc.garbage if isinstance(x, (torch.Tensor, Sparse, Graph))]
        assert not left, f"{len(left)} in cycles: {[type(x).__name__ for x in left[:5]]}"
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
