"""EASE against a dense float64 inverse."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import sparse

from graphcl.interactions import Interactions, Vocabulary
from graphcl.rank import top_k
from graphcl.recipes import ease
from graphcl.testing import checkerboard
from tests.recipes.floor import random_log

CONFIG = ease.Config(l2=3.0)
CHECKERBOARD = ease.Config(l2=1.0)


@pytest.mark.parametrize(("num_items", "l2"), [(30, 3.0), (30, 500.0), (150, 20.0)])  # 150 items: three tiles
def test_equals_the_dense_formula(num_items, l2):
    data = random_log(num_items=num_items)
    x = data.matrix.toarray().astype(np.float64)
    inverse = np.linalg.inv(x.T @ x + l2 * np.eye(num_items))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    scorer = ease.build(ease.Config(l2), data)
    np.testing.assert_allclose(scorer.weights, weights, rtol=1e-4, atol=1e-6)
    got = scorer.score(torch.arange(data.num_users))
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), x @ weights, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("block", [1, 7, 30, 64])
def test_inversion_by_blocks(block):
    x = torch.randn(50, 30, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrix = x.T @ x + torch.eye(30)
    got = matrix.clone()
    assert ease.invert_in_place(got, block)
    want = -torch.linalg.inv(matrix)
    torch.testing.assert_close(got.triu(), want.triu(), rtol=1e-10, atol=1e-12)
    matrix[20, 20] = -1
    assert not ease.invert_in_place(matrix, block)


def test_weights_solve_the_constrained_least_squares():
    """The gradient of |X - X B|^2 + l2 |B|^2 vanishes off the diagonal."""
    data = random_log()
    x, b = data.matrix.toarray().astype(np.float64), ease.build(CONFIG, data).weights.astype(np.float64)
    gradient = x.T @ (x @ b - x) + CONFIG.l2 * b
    np.fill_diagonal(gradient, 0)
    assert np.abs(gradient).max() < 1e-4


def test_bad_settings():
    with pytest.raises(ValueError, match="l2 must be positive"):
        ease.Config(l2=0)


def test_too_small_l2_is_told():
    users = np.repeat(np.arange(3), 20).astype(np.int32)
    items = np.tile(np.arange(20), 3).astype(np.int32)
    same = Interactions(users, items, Vocabulary(np.arange(3)), Vocabulary(np.arange(20)))
    with pytest.raises(ValueError, match="raise l2"):
        ease.build(ease.Config(l2=1e-12), same)


def test_a_history_scores_as_its_user_does():
    data = random_log()
    scorer = ease.build(CONFIG, data)
    users = torch.tensor([3, 7, 20])
    torch.testing.assert_close(scorer.score(data.matrix[users.numpy()]), scorer.score(users), rtol=0, atol=0)
    with pytest.raises(ValueError, match="30 items"):
        scorer.score(sparse.csr_matrix((2, 29)))


def test_state_survives_safetensors(tmp_path):
    data = random_log()
    scorer = ease.build(CONFIG, data)
    save_file(scorer.state(), tmp_path / "weights.safetensors")
    back = ease.restore(CONFIG, data, load_file(tmp_path / "weights.safetensors"))
    users = torch.arange(data.num_users)
    torch.testing.assert_close(back.score(users), scorer.score(users), rtol=0, atol=0)


def test_ranks_the_withheld_item_first():
    data, withheld = checkerboard(12, 10)
    items, _ = top_k(ease.build(CHECKERBOARD, data), np.arange(12), 1, seen=data.matrix)
    assert items[:, 0].tolist() == withheld.tolist()
