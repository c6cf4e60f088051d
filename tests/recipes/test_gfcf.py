"""GF-CF against a dense float64 formula."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import sparse

from graphcl.rank import top_k
from graphcl.recipes import gfcf
from graphcl.testing import checkerboard
from tests.recipes.floor import dense_filters, random_log

CONFIG = gfcf.Config(factors=5)
CHECKERBOARD = gfcf.Config(factors=2)


def dense_scores(x: np.ndarray, factors: int, alpha: float) -> np.ndarray:
    near, low = dense_filters(x, factors)
    return x @ near + alpha * x @ low


# factors 256 exceed the rank; 90 items leave room for the iterative solver
@pytest.mark.parametrize(("num_users", "num_items", "factors"), [(40, 30, 5), (40, 30, 256), (110, 90, 7), (90, 110, 7)])
def test_equals_the_dense_formula(num_users, num_items, factors):
    data = random_log(num_users=num_users, num_items=num_items)
    x = data.matrix.toarray().astype(np.float64)
    got = gfcf.build(gfcf.Config(factors), data).score(torch.arange(num_users))
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), dense_scores(x, factors, 0.3), rtol=1e-4, atol=1e-5)


def test_without_the_low_pass_term():
    data = random_log()
    scorer = gfcf.build(gfcf.Config(alpha=0.0), data)
    x = data.matrix.toarray().astype(np.float64)
    np.testing.assert_allclose(scorer.score(torch.arange(40)).numpy(), dense_scores(x, 1, 0.0), rtol=1e-4, atol=1e-6)


def test_largest_singular_value_is_one():
    matrix = gfcf.normalised(random_log(num_users=110, num_items=90).matrix)
    assert np.linalg.svd(matrix.toarray(), compute_uv=False)[0] == pytest.approx(1, abs=1e-6)


def test_bad_settings():
    with pytest.raises(ValueError, match="factors must be at least 1"):
        gfcf.Config(factors=0)


def test_a_history_scores_as_its_user_does():
    data = random_log()
    scorer = gfcf.build(CONFIG, data)
    users = torch.tensor([3, 7, 20])
    torch.testing.assert_close(scorer.score(data.matrix[users.numpy()]), scorer.score(users), rtol=0, atol=0)
    with pytest.raises(ValueError, match="30 items"):
        scorer.score(sparse.csr_matrix((2, 29)))


def test_state_survives_safetensors(tmp_path):
    data = random_log()
    scorer = gfcf.build(CONFIG, data)
    save_file(scorer.state(), tmp_path / "weights.safetensors")
    back = gfcf.restore(CONFIG, data, load_file(tmp_path / "weights.safetensors"))
    users = torch.arange(data.num_users)
    torch.testing.assert_close(back.score(users), scorer.score(users), rtol=0, atol=0)


def test_ranks_the_withheld_item_first():
    data, withheld = checkerboard(12, 10)
    items, _ = top_k(gfcf.build(CHECKERBOARD, data), np.arange(12), 1, seen=data.matrix)
    assert items[:, 0].tolist() == withheld.tolist()
