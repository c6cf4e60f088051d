"""Truncated SVD against LAPACK's full one, with every solver."""

import logging

import numpy as np
import pytest
import torch
from scipy import sparse

from graphcl.graph import normalise
from graphcl.ops import Sparse, sketched_svd, svd, truncated_svd
from graphcl.testing import tiny_interactions


@pytest.fixture(params=["lapack", "lanczos"])
def solver(request, monkeypatch):
    """Small matrices go to LAPACK; with the threshold at 0 the same ones show what PROPACK and ARPACK do."""
    if request.param == "lanczos":
        monkeypatch.setattr(svd, "_SMALL", 0)
    return request.param


def random_matrix(n: int, m: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    matrix = np.where(rng.random((n, m)) < 0.2, rng.standard_normal((n, m)), 0)
    matrix[3] = matrix[:, 4] = 0
    return matrix


@pytest.mark.parametrize("shape", [(40, 25), (25, 40)])
def test_equals_the_leading_part_of_the_full_decomposition(shape, solver):
    matrix = random_matrix(*shape)
    found = truncated_svd(Sparse.from_scipy(matrix, dtype=torch.float64), 4)
    u, s, vt = np.linalg.svd(matrix)
    np.testing.assert_allclose(found.s, s[:4], rtol=1e-9)
    for k in range(4):
        sign = np.sign(u[np.abs(u[:, k]).argmax(), k])
        np.testing.assert_allclose(found.u[:, k], sign * u[:, k], atol=1e-7)
        np.testing.assert_allclose(found.v[:, k], sign * vt[k], atol=1e-7)
    np.testing.assert_allclose(found.energy, (s[:4] ** 2).sum() / (s**2).sum())
    errors = np.linalg.norm(matrix @ found.v.numpy() - found.u.numpy() * found.s.numpy(), axis=0)
    assert errors.max() / s[0] <= found.residual * 1.01 + 1e-14
    assert found.residual < 1e-8


@pytest.mark.parametrize("shape", [(40, 25), (25, 40)])
def test_has_no_seed(shape, solver):
    """A tall matrix once got PROPACK's own random start vector, and so another last digit in every process."""
    op = Sparse.from_scipy(random_matrix(*shape), dtype=torch.float64)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = truncated_svd(op, 3), truncated_svd(op, 3)
    for a, b in ((first.u, second.u), (first.s, second.s), (first.v, second.v)):
        assert torch.equal(a, b)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002


def test_largest_entry_of_each_left_vector_is_positive(solver):
    found = truncated_svd(Sparse.from_scipy(random_matrix(40, 25), dtype=torch.float64), 5)
    assert (found.u[found.u.abs().argmax(0), torch.arange(5)] > 0).all()
    assert (found.s.diff() < 0).all()


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_repeated_and_vanishing_singular_values(blocks, solver):
    """On equal blocks of ones PROPACK returns triplets that are none (energy above 1, left vectors all alike), or gives up."""
    matrix = np.kron(np.eye(blocks), np.ones((9, 5)))
    found = truncated_svd(Sparse.from_scipy(matrix, dtype=torch.float64), 3)
    np.testing.assert_allclose(found.s, [45**0.5] * blocks + [0] * (3 - blocks), atol=1e-7)
    np.testing.assert_allclose(found.energy, 1)
    assert found.residual < 1e-6
    np.testing.assert_allclose((found.u * found.s) @ found.v.T, matrix, atol=1e-7)
    np.testing.assert_allclose(found.v.T @ found.v, np.eye(3), atol=1e-7)


def test_tells_when_nothing_converged(monkeypatch, caplog):
    monkeypatch.setattr(svd, "_triplets", lambda matrix, rank, solver: (np.ones((40, 1)), np.ones(1), np.ones((25, 1))))
    with caplog.at_level(logging.WARNING):
        assert truncated_svd(Sparse.from_scipy(random_matrix(40, 25)), 1).residual > 1
    assert "off by" in caplog.text

    def fails(matrix, rank, solver):
        raise np.linalg.LinAlgError("no")

    monkeypatch.setattr(svd, "_triplets", fails)
    with pytest.raises(RuntimeError, match="no solver"):
        truncated_svd(Sparse.from_scipy(random_matrix(40, 25)), 1)


def test_leading_triplet_of_a_normalised_graph():
    """D_u^-1/2 R D_i^-1/2 of a connected graph has largest singular value 1, its vectors the roots of the degrees."""
    matrix = tiny_interactions().matrix
    users, items = matrix.shape
    both = sparse.bmat([[None, matrix], [matrix.T, None]]).tocsr()
    rowptr, col = torch.from_numpy(both.indptr).long(), torch.from_numpy(both.indices)
    op = normalise(Sparse(rowptr, col, both.shape, symmetric=True))
    block = op.to_scipy()[:users, users:]
    found = truncated_svd(Sparse.from_scipy(block, dtype=torch.float64), 2)
    assert float(found.s[0]) == pytest.approx(1, abs=1e-6)
    assert float(found.s[1]) < 0.99
    for vector, degrees in (
        (found.u[:, 0], np.diff(matrix.indptr)),
        (found.v[:, 0], np.bincount(matrix.indices, minlength=items)),
    ):
        np.testing.assert_allclose(vector, np.sqrt(degrees / degrees.sum()), atol=1e-6)


def test_scales_and_dtype_are_the_operators():
    op = Sparse.from_scipy(random_matrix(12, 9)).scaled(torch.full((12,), 2.0), torch.full((9,), 0.5))
    found = truncated_svd(op, 2)
    assert found.u.dtype == found.s.dtype == found.v.dtype == torch.float32
    np.testing.assert_allclose(found.s, np.linalg.svd(random_matrix(12, 9))[1][:2], rtol=1e-6)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(40, 25), (25, 40)])
@pytest.mark.parametrize("iterations", [0, 2])
def test_sketch_is_the_projection_on_the_range_of_powers(shape, iterations):
    """With the same normal matrix G: A is projected on the columns of (A A')^2 A G, without a QR in between; transposed if wide."""
    matrix = random_matrix(*shape)
    found = sketched_svd(Sparse.from_scipy(matrix, dtype=torch.float64), 4, iterations=iterations, rng=generator(3))
    tall = matrix if shape[0] > shape[1] else matrix.T
    drawn = torch.randn(25, 4, dtype=torch.float64, generator=generator(3)).numpy()
    span = np.linalg.matrix_power(tall @ tall.T, iterations) @ tall @ drawn
    projected = span @ np.linalg.pinv(span) @ tall
    projected = projected if shape[0] > shape[1] else projected.T
    np.testing.assert_allclose((found.u * found.s) @ found.v.T, projected, atol=1e-8)
    np.testing.assert_allclose(found.s, np.linalg.svd(projected)[1][:4], rtol=1e-9)
    for vectors in (found.u, found.v):
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(found.energy, (projected**2).sum() / (matrix**2).sum())
    assert found.residual > 1e-3  # these are no triplets, and it says so


@pytest.mark.parametrize("shape", [(40, 25), (25, 40)])
def test_sketch_is_torchs(shape):
    matrix = random_matrix(*shape)
    with torch.random.fork_rng():
        torch.set_rng_state(generator(3).get_state())
        u, s, v = torch.svd_lowrank(torch.from_numpy(matrix), q=4, niter=2)
    found = sketched_svd(Sparse.from_scipy(matrix, dtype=torch.float64), 4, rng=generator(3))
    np.testing.assert_allclose((found.u * found.s) @ found.v.T, (u * s) @ v.T, atol=1e-10)


def test_sketch_is_a_function_of_rng():
    op = Sparse.from_scipy(random_matrix(40, 25))
    state = torch.get_rng_state()
    first, second, other = (sketched_svd(op, 3, rng=generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first.u, second.u)
    assert not torch.allclose(first.s, other.s)
    assert first.u.dtype == torch.float32
    assert (first.u[first.u.abs().argmax(0), torch.arange(3)] > 0).all()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("rank", [299, 300])
def test_all_or_all_but_one_of_the_triplets(rank):
    matrix = random_matrix(320, 300)
    found = truncated_svd(Sparse.from_scipy(matrix, dtype=torch.float64), rank)
    np.testing.assert_allclose(found.s, np.linalg.svd(matrix, compute_uv=False)[:rank], atol=1e-10)


def test_restarts_of_the_solver_have_one_seed():
    """Of a matrix of rank 6 PROPACK starts anew from random vectors to find 10 triplets."""
    draw = np.random.default_rng(3)
    matrix = draw.standard_normal((400, 6)) @ draw.standard_normal((6, 300))
    first, second = (truncated_svd(Sparse.from_scipy(matrix, dtype=torch.float64), 10) for _ in range(2))
    assert torch.equal(first.u, second.u)
    assert torch.equal(first.v, second.v)


def sketched(op: Sparse, rank: int):
    return sketched_svd(op, rank, rng=generator())


@pytest.mark.parametrize("decompose", [truncated_svd, sketched])
@pytest.mark.parametrize("rank", [0, -1, 10, 20])
def test_ranks_outside_the_matrix_are_refused(rank, decompose):
    with pytest.raises(ValueError, match="between 1 and 9"):
        decompose(Sparse.from_scipy(random_matrix(12, 9)), rank)


@pytest.mark.parametrize("decompose", [truncated_svd, sketched])
def test_zeros_are_refused(decompose):
    with pytest.raises(ValueError, match="zeros"):
        decompose(Sparse.from_scipy(np.zeros((5, 4))), 2)
