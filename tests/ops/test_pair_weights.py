"""The kernels of pair weights against float64, and against what torch does in their place."""

import numba
import pytest
import torch
from torch.testing import assert_close

from graphcl.ops import Disagreement, Gate


def draw(*shape: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def layer(units: int, scale: float = 1.0, shift: float = 0.0) -> list[torch.Tensor]:
    """Of 9 anchors and 21 keys."""
    return [
        draw(9, units, seed=0, scale=scale) + shift, draw(21, units, seed=1, scale=scale) - shift,
        draw(units, seed=2), torch.tensor(0.4, dtype=torch.float64),
    ]  # fmt: skip


def slow(anchors, keys, weight, bias) -> torch.Tensor:
    """log sigmoid(z) [m, n]"""
    z = bias + ((keys[:, None] + anchors[None]).tanh() * weight).sum(2)
    return -torch.logaddexp(torch.zeros_like(z), -z)


@pytest.mark.parametrize("units", [1, 2, 5, 16])
@pytest.mark.parametrize(
    ("scale", "shift"), [(1, 0), (0.01, 0), (2, 0), (1, 200), (40, 0)], ids=["", "small", "large", "apart", "beyond the kernel"]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gate(units, scale, shift, dtype):
    """Anchors' and keys' parts may lie far apart (+200 and -200); where single ones exceed what the kernel can do, torch does it."""
    parts = [p.to(dtype) for p in layer(units, scale, shift)]
    exact = [p.double().requires_grad_() for p in parts]
    x, flow, share = draw(21, 9, seed=3).to(dtype), draw(21, 9, seed=4).to(dtype), draw(9, seed=5).to(dtype)
    logs = slow(*exact)
    gate = Gate(*parts)
    assert gate._kernel == (dtype == torch.float32 and scale < 40)
    for start, stop in ((0, 4), (4, 9)):
        added = x[:, start:stop].clone()
        gate.add_log(added, start, stop)
        tolerance = 3e-6 if dtype == torch.float32 else 1e-12
        assert_close(added.double(), x[:, start:stop].double() + logs[:, start:stop].detach(), rtol=tolerance, atol=tolerance)
        gate.pull(flow[:, start:stop].contiguous(), share[start:stop])
    expected = torch.autograd.grad((logs * flow.double() * share.double()).sum(), exact)
    for got, wanted in zip(gate.gradients, expected, strict=True):
        assert got.dtype == dtype
        assert_close(got.double(), wanted, rtol=0, atol=tolerance * 3 * max(1, float(wanted.abs().max())))


def test_gate_of_extreme_sums():
    """z from -2000 to 2000: the logarithm is z itself below and 0 above, never -inf."""
    keys = torch.tensor([[-9.0], [-1.0], [0.0], [1.0], [9.0]])
    gate = Gate(torch.zeros(1, 1), keys, torch.tensor([2000.0]), torch.tensor(0.0))
    x = torch.zeros(5, 1)
    gate.add_log(x, 0, 1)
    assert_close(x[:, 0], torch.tensor([-2000.0, -2000 * 0.76159416, -0.6931472, 0.0, 0.0]), rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_disagreement(dtype):
    generator = torch.Generator().manual_seed(0)
    anchors, keys = torch.randint(3, (9, 4), generator=generator), torch.randint(3, (21, 4), generator=generator)
    keys[0] = anchors[5]
    x = draw(21, 9, seed=3).to(dtype)
    added = x[:, 4:9].clone()
    Disagreement(anchors, keys).add_log(added, 4, 9)
    for j in range(21):
        for i in range(4, 9):
            apart = sum(int(a != b) for a, b in zip(keys[j], anchors[i], strict=True))
            expected = x[j, i] + torch.tensor(float(apart), dtype=dtype).log()
            assert_close(added[j, i - 4], expected, rtol=1e-6, atol=1e-7)
    assert added[0, 1] == -torch.inf


def test_results_do_not_depend_on_threads():
    def run():
        gate = Gate(*(p.float() for p in layer(16)))
        x = torch.zeros(21, 9)
        gate.add_log(x, 0, 9)
        gate.pull(x, torch.ones(9))
        return [x, *gate.gradients]

    usual, found = numba.get_num_threads(), []
    try:
        for threads in (1, numba.config.NUMBA_NUM_THREADS):
            numba.set_num_threads(threads)
            found.append(run())
    finally:
        numba.set_num_threads(usual)
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
