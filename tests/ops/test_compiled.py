"""Compiled kernels give the same bits in the process that compiles them and in those that load them from numba's cache."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import hashlib
import numpy as np
import torch
from graphcl.data.synth import synth_pairs
from graphcl.graph import bipartite
from graphcl.interactions import Interactions, Vocabulary
from graphcl.ops.pair_weights import _add_gate, _pull_gate

def told(*arrays):
    print(*(hashlib.md5(np.ascontiguousarray(each).tobytes()).hexdigest() for each in arrays))

def positive(*shape):
    return np.exp(rng.standard_normal(shape)).astype(np.float32)

rng = np.random.default_rng(0)
adj = bipartite(Interactions(*synth_pairs(200, 150, 4000, seed=0), Vocabulary(np.arange(200)), Vocabulary(np.arange(150)))).adj
x = torch.from_numpy(rng.standard_normal((adj.shape[1], 64)).astype(np.float32))
told((adj @ x).numpy(), adj.noisy(x, 0.1, 12345).numpy())
logits, closed, anchors, keys = np.log(positive(300, 256)), positive(300, 256), positive(16, 256), positive(300, 16)
near, far, sums = np.zeros((16, 16, 256), np.float32), np.empty_like(keys), np.zeros((16, 17), np.float32)
_pull_gate(logits, closed, positive(256), anchors, keys, near, far, sums)
_add_gate(logits, closed, anchors, keys, positive(16), np.float32(0.3))
told(near, far, sums, logits, closed)
"""


@pytest.mark.slow
def test_a_process_that_compiles_has_the_bits_of_one_that_does_not(tmp_path):
    """The noise and the gradients of AdaMEOW's gate differed in the last place, by which products were fused."""
    root = Path(__file__).resolve().parents[2]
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(root)}
    first, second = (
        subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert len(first.split()) == 7
    assert first == second
