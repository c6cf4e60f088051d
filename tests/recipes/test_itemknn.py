"""Item neighbours against a dense float64 formula."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import sparse

from graphcl.rank import top_k
from graphcl.recipes import itemknn
from graphcl.testing import checkerboard
from tests.recipes.floor import random_log

CONFIG = itemknn.Config(neighbours=4, shrink=2.0)
CHECKERBOARD = itemknn.Config()


def dense_weights(x: np.ndarray, neighbours: int, shrink: float) -> np.ndarray:
    num = x.shape[1]
    degree = x.sum(0)
    out = np.zeros((num, num))
    for j in range(num):  # the item scored
        similar = []
        for i in range(num):
            common = (x[:, i] * x[:, j]).sum()
            if i != j and common > 0:
                similar.append((-common / (np.sqrt(degree[i] * degree[j]) + shrink), i))
        for value, i in sorted(similar)[:neighbours]:
            out[i, j] = -value
    return out


@pytest.mark.parametrize(("neighbours", "shrink"), [(4, 2.0), (1, 0.0), (100, 0.5)])
def test_equals_the_dense_formula(neighbours, shrink):
    data = random_log()
    x = data.matrix.toarray().astype(np.float64)
    scorer = itemknn.build(itemknn.Config(neighbours, shrink), data)
    weights = dense_weights(x, neighbours, shrink)
    np.testing.assert_allclose(scorer.weights.toarray(), weights, rtol=1e-6)
    got = scorer.score(torch.arange(data.num_users))
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), x @ weights, rtol=1e-5, atol=1e-6)


def test_bad_settings():
    with pytest.raises(ValueError, match="neighbours must be at least 1"):
        itemknn.Config(neighbours=0)
    with pytest.raises(ValueError, match="shrink at least 0"):
        itemknn.Config(shrink=-1.0)


def test_a_history_scores_as_its_user_does():
    data = random_log()
    scorer = itemknn.build(CONFIG, data)
    users = torch.tensor([3, 7, 20])
    torch.testing.assert_close(scorer.score(data.matrix[users.numpy()]), scorer.score(users), rtol=0, atol=0)
    with pytest.raises(ValueError, match="30 items"):
        scorer.score(sparse.csr_matrix((2, 29)))


def test_state_survives_safetensors(tmp_path):
    data = random_log()
    scorer = itemknn.build(CONFIG, data)
    save_file(scorer.state(), tmp_path / "weights.safetensors")
    back = itemknn.restore(CONFIG, data, load_file(tmp_path / "weights.safetensors"))
    users = torch.arange(data.num_users)
    torch.testing.assert_close(back.score(users), scorer.score(users), rtol=0, atol=0)


def test_ranks_the_withheld_item_first():
    data, withheld = checkerboard(12, 10)
    items, _ = top_k(itemknn.build(CHECKERBOARD, data), np.arange(12), 1, seen=data.matrix)
    assert items[:, 0].tolist() == withheld.tolist()
