"""BSPM against a dense float64 solution of its equations."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import linalg, sparse

from graphcl.rank import top_k
from graphcl.recipes import bspm, gfcf
from graphcl.testing import checkerboard
from tests.recipes.floor import dense_filters, random_log

SETTINGS = [
    {"sharpen": 1.2, "solver": "euler"},
    {"sharpen": 1.2, "solver": "euler", "average": True},
    {"sharpen": 2.5, "alpha": 0.2, "solver": "rk4"},
    {"sharpen": 2.2, "steps": 2, "solver": "rk4", "merge": "late"},
    {"sharpen": 0.8, "steps": 3, "alpha": 0.0},
    {"sharpen": 0.8, "solver": "euler", "merge": "late", "average": True},
]


def dense_scores(x: np.ndarray, config: bspm.Config) -> np.ndarray:
    """By the solvers' own stages, on dr/dt = -r P."""
    near_matrix, low_matrix = dense_filters(x, config.factors)
    near, low = x @ near_matrix, config.alpha * x @ low_matrix

    def slope(r: np.ndarray) -> np.ndarray:
        return -r @ near_matrix

    r, h = near + (low if config.merge == "early" else 0), config.sharpen / config.steps
    for _ in range(config.steps):
        first = slope(r)
        if config.solver == "euler":
            r = r + h * first
        else:
            second = slope(r + h / 2 * first)
            third = slope(r + h / 2 * second)
            fourth = slope(r + h * third)
            r = r + h / 6 * (first + 2 * second + 2 * third + fourth)
    if config.average:
        r = (r + near) / 2
    return r + (low if config.merge == "late" else 0)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_equals_the_dense_solution(settings):
    data = random_log()
    config = bspm.Config(factors=5, **settings)
    got = bspm.build(config, data).score(torch.arange(40))
    assert got.dtype == torch.float32
    want = dense_scores(data.matrix.toarray().astype(np.float64), config)
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("solver", "closest"), [("euler", 2e-2), ("rk4", 1e-5)])
def test_small_steps_come_to_the_exponential(solver, closest):
    data = random_log()
    x = data.matrix.toarray().astype(np.float64)
    near, _ = dense_filters(x, 1)
    want = x @ near @ linalg.expm(-1.5 * near)
    got = bspm.build(bspm.Config(alpha=0.0, sharpen=1.5, steps=60, solver=solver), data).score(torch.arange(40)).numpy()
    assert np.abs(got - want).max() < closest * np.abs(want).max()


def test_more_users_than_go_through_the_graph_at_a_time(monkeypatch):
    data = random_log()
    scorer = bspm.build(bspm.Config(factors=5), data)
    whole = scorer.score(torch.arange(40))
    monkeypatch.setattr(bspm, "WIDTH", 16)
    torch.testing.assert_close(scorer.score(torch.arange(40)), whole)
    assert scorer.score(torch.arange(0)).shape == (0, 30)


def test_without_time_it_is_gfcf():
    data = random_log()
    got = bspm.build(bspm.Config(factors=5, sharpen=0.0), data).score(torch.arange(40))
    torch.testing.assert_close(got, gfcf.build(gfcf.Config(factors=5, alpha=0.3), data).score(torch.arange(40)))


def test_a_history_scores_as_its_user_does():
    data = random_log()
    scorer = bspm.build(bspm.Config(factors=5), data)
    users = torch.tensor([3, 7, 20])
    torch.testing.assert_close(scorer.score(data.matrix[users.numpy()]), scorer.score(users), rtol=0, atol=0)
    with pytest.raises(ValueError, match="30 items"):
        scorer.score(sparse.csr_matrix((2, 29)))


@pytest.mark.parametrize("merge", ["early", "late"])
def test_state_survives_safetensors(tmp_path, merge):
    data, config = random_log(), bspm.Config(factors=5, merge=merge, average=True)
    scorer = bspm.build(config, data)
    save_file(scorer.state(), tmp_path / "weights.safetensors")
    back = bspm.restore(config, data, load_file(tmp_path / "weights.safetensors"))
    users = torch.arange(data.num_users)
    torch.testing.assert_close(back.score(users), scorer.score(users), rtol=0, atol=0)


def test_ranks_the_withheld_item_first():
    data, withheld = checkerboard(12, 10)
    items, _ = top_k(bspm.build(bspm.Config(factors=2), data), np.arange(12), 1, seen=data.matrix)
    assert items[:, 0].tolist() == withheld.tolist()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"factors": 0}, "factors and steps must be at least 1"),
        ({"steps": 0}, "factors and steps must be at least 1"),
        ({"sharpen": -1.0}, "sharpen must be 0 or more"),
        ({"sharpen": float("nan")}, "sharpen must be 0 or more"),
        ({"alpha": float("inf")}, "alpha must be 0 or more, and finite"),
        ({"solver": "dopri5"}, "solver must be euler or rk4"),
        ({"merge": "never"}, "merge must be early or late"),
    ],
)
def test_bad_settings(change, said):
    with pytest.raises(ValueError, match=said):
        bspm.Config(**change)
