"""Noise of SimGCL and XSimGCL."""

import numpy as np
import pytest
import torch

from graphcl.ops import LowRank, Product, draw_key, uniform
from graphcl.perturb.noise import SignNoise
from graphcl.testing import tiny_graph, undisturbed

EPS = 0.3


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def h():
    rows = torch.randn(11, 4, generator=generator(9), dtype=torch.float64)
    rows[4] = 0
    rows[7, 2] = 0
    return rows


def test_each_row_moves_by_eps_inside_its_orthant(h):
    moved = SignNoise(EPS)(h, generator()) - h
    full = (h != 0).all(1)
    np.testing.assert_allclose(moved[full].norm(dim=1), EPS, rtol=1e-12)
    assert (moved * h >= 0).all()
    assert (moved[full] * h[full] > 0).any(1).all()
    assert moved[4].tolist() == [0, 0, 0, 0]
    assert moved[7, 2] == 0
    assert 0 < moved[7].norm() < EPS


def test_the_move_is_a_uniform_draw_scaled_to_eps(h):
    rng = generator()
    u = uniform(draw_key(generator()), torch.arange(11), 4).double()
    expected = h.clone()
    for row in range(11):
        expected[row] += EPS * h[row].sign() * u[row] / u[row].square().sum().sqrt()
    np.testing.assert_allclose(SignNoise(EPS)(h, rng), expected, rtol=1e-12)


@pytest.mark.parametrize("eps", [0.0, EPS])
def test_fused_equals_product_then_noise(h, eps):
    op, noise = tiny_graph(torch.float64).ops[0], SignNoise(eps)
    fused = noise.after(op, h, generator(5))
    np.testing.assert_allclose(fused, noise(op @ h, generator(5)), rtol=1e-12, atol=1e-14)
    lengths = (fused - op @ h).norm(dim=1)
    known = op.degrees() > 0
    np.testing.assert_allclose(lengths[known], eps, rtol=1e-10, atol=1e-14)
    assert not fused[~known].any()


def test_eps_is_not_rounded_to_float32_for_float64_tables(h):
    op = tiny_graph(torch.float64).ops[0]
    moved = (SignNoise(0.1).after(op, h, generator()) - op @ h).norm(dim=1)
    assert float((moved[op.degrees() > 0] - 0.1).abs().max()) < 1e-13


@pytest.mark.parametrize("through", ["sparse", "product"])
def test_some_rows_get_the_noise_that_they_have_in_the_whole(h, through):
    op = tiny_graph(torch.float64).ops[0]
    if through == "product":
        op = Product(op, LowRank(torch.eye(11).double(), torch.eye(11).double()))
    noise, rows = SignNoise(EPS), torch.tensor([8, 0, 4, 8])
    whole = noise.after(op, h, generator(2))
    np.testing.assert_allclose(noise.after(op.rows(rows), h, generator(2), rows), whole[rows], rtol=1e-12, atol=1e-14)


def test_gradient_is_that_of_the_identity(h):
    noise, op = SignNoise(EPS), tiny_graph(torch.float64).ops[0]
    x, weight = h.clone().requires_grad_(), torch.arange(44.0).view(11, 4).double()
    (gradient,) = torch.autograd.grad((noise(x, generator()) * weight).sum(), x)
    assert torch.equal(gradient, weight)
    (gradient,) = torch.autograd.grad((noise.after(op, x, generator()) * weight).sum(), x)
    torch.testing.assert_close(gradient, op.T @ weight)


def test_function_of_rows_and_rng_alone(h):
    noise, op, kept = SignNoise(EPS), tiny_graph(torch.float64).ops[0], h.clone()
    for draw in (lambda rng: noise(h, rng), lambda rng: noise.after(op, h, rng)):
        with undisturbed():
            one, same, other = draw(generator(1)), draw(generator(1)), draw(generator(2))
        assert torch.equal(one, same)
        assert not torch.equal(one, other)
        rng = generator(1)
        assert not torch.equal(draw(rng), draw(rng))
    assert torch.equal(h, kept)


def test_both_forms_take_the_same_draws_from_the_generator(h):
    """So that switching between them moves nobody else's numbers, also where eps is 0."""
    for eps in (0.0, EPS):
        one, two = generator(), generator()
        SignNoise(eps)(h, one)
        SignNoise(eps).after(tiny_graph(torch.float64).ops[0], h, two)
        assert draw_key(one) == draw_key(two)


@pytest.mark.parametrize("eps", [-0.1, float("nan")])
def test_negative_lengths_are_refused(eps):
    with pytest.raises(ValueError, match="eps"):
        SignNoise(eps)
