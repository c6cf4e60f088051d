"""Segment reductions by torch and, where it is installed (``make test-scatter``), by torch-scatter: against loops, and each other."""

import importlib.util
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from graphcl.ops import segment, segment_log_sum_exp, segment_max, segment_numbers, segment_sum

SCATTER = importlib.util.find_spec("torch_scatter") is not None
POINTERS = torch.tensor([0, 0, 3, 4, 4, 9, 9])  # the first, a middle and the last one are empty


@pytest.fixture(params=["torch", pytest.param("torch_scatter", marks=pytest.mark.skipif(not SCATTER, reason="no torch_scatter"))])
def kernels(request, monkeypatch):
    if request.param == "torch":
        monkeypatch.setattr(segment, "scatter_kernel", lambda: None)
    else:
        assert segment.scatter_kernel() is not None
    return request.param


def values(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(9, *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def segments(x: torch.Tensor, pointers: torch.Tensor = POINTERS) -> list[list[torch.Tensor]]:
    return [[x[e] for e in range(pointers[n], pointers[n + 1])] for n in range(len(pointers) - 1)]


def test_numbers():
    assert segment_numbers(POINTERS).tolist() == [1, 1, 1, 2, 4, 4, 4, 4, 4]


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_sum(kernels, shape):
    x = values(*shape)
    wanted = [sum(part, start=torch.zeros(shape, dtype=torch.float64)) for part in segments(x)]
    assert_close(segment_sum(x, POINTERS), torch.stack(wanted), rtol=1e-14, atol=1e-15)


def test_max(kernels):
    """An empty segment has none; one of negative values has a negative one. (The kernel itself says 0 of an empty one.)"""
    x = -values().abs() - 1
    wanted = torch.tensor([max(part, default=-torch.inf) for part in segments(x)], dtype=torch.float64)
    found = segment_max(x.requires_grad_(), POINTERS)
    assert torch.equal(found, wanted)
    assert not found.requires_grad


@pytest.mark.parametrize("shift", [0, 1e4, -1e4])
def test_log_sum_exp(kernels, shift):
    x = values()
    wanted = [torch.stack(part).exp().sum().log() if part else torch.tensor(-torch.inf) for part in segments(x)]
    assert_close(segment_log_sum_exp(x + shift, POINTERS), torch.stack(wanted).double() + shift, rtol=1e-12, atol=0)


def test_log_sum_exp_of_nothing_but_minus_infinity(kernels):
    """As a segment of weight 0 has: -inf, and a gradient that is 0, not NaN; beside others a -inf adds nothing."""
    x = values()
    x[0] = x[3] = -torch.inf
    x.requires_grad_()
    found = segment_log_sum_exp(x, POINTERS)
    assert found[2] == -torch.inf
    assert found[1].item() == pytest.approx(x[1:3].exp().sum().log().item(), rel=1e-12)
    (gradient,) = torch.autograd.grad(found[found.isfinite()].sum(), x)
    assert gradient[0] == gradient[3] == 0
    assert_close(gradient[1:3], x[1:3].softmax(0).detach())
    assert_close(gradient[4:], x[4:].softmax(0).detach())


def test_gradients(kernels):
    x, flat = values(2).requires_grad_(), values(seed=1).requires_grad_()
    assert torch.autograd.gradcheck(partial(segment_sum, pointers=POINTERS), (x,))
    assert torch.autograd.gradcheck(lambda v: segment_log_sum_exp(v, POINTERS)[[1, 2, 4]], (flat,))


def test_no_segments_and_no_rows(kernels):
    for pointers in (torch.tensor([0]), torch.tensor([0, 0, 0])):
        count = len(pointers) - 1
        assert segment_sum(values(3)[:0], pointers).tolist() == [[0.0] * 3] * count
        assert segment_log_sum_exp(values()[:0], pointers).tolist() == [-torch.inf] * count


@pytest.mark.skipif(not SCATTER, reason="no torch_scatter")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_with_and_without_are_equal(monkeypatch, dtype):
    """To the bit, on a thousand segments of up to 200 rows."""
    rng = torch.Generator().manual_seed(0)
    pointers = torch.cat([torch.zeros(1, dtype=torch.int64), torch.randint(0, 200, (1000,), generator=rng).cumsum(0)])
    wide, flat = (torch.randn(int(pointers[-1]), *shape, generator=rng, dtype=dtype) for shape in ((8,), ()))

    def all_three():
        return segment_sum(wide, pointers), segment_max(flat, pointers), segment_log_sum_exp(flat, pointers)

    assert segment.scatter_kernel() is not None
    with_it = all_three()
    monkeypatch.setattr(segment, "scatter_kernel", lambda: None)
    for a, b in zip(with_it, all_three(), strict=True):
        assert torch.equal(a, b)
