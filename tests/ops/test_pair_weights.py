"""Weights of pairs, added to tiles of logits: kernels against plain loops, and against torch's path."""

import math

import pytest
import torch

from graphcl.ops import Disagreement, Gate


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_disagreement(dtype):
    anchors, keys = torch.randint(0, 3, (7, 2), generator=rng(1)), torch.randint(0, 3, (5, 2), generator=rng(2))
    x = torch.zeros(5, 3, dtype=dtype)
    Disagreement(anchors, keys).add_log(x, 2, 5)
    for j in range(5):
        for i in range(3):
            apart = sum(int(a != b) for a, b in zip(anchors[2 + i].tolist(), keys[j].tolist(), strict=True))
            assert float(x[j, i]) == pytest.approx(math.log(apart) if apart else -math.inf)


@pytest.mark.parametrize("hidden", [1, 4, 5])
@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 1.0), (torch.float64, 1.0), (torch.float32, 40.0)])
def test_gate_and_its_gradients(hidden, dtype, scale):
    """At scale 40 a float32 gate is beyond what the kernel's exponentials hold."""
    a, b = (torch.randn(n, hidden, generator=rng(n), dtype=dtype) * scale for n in (6, 8))
    weight, bias = torch.randn(hidden, generator=rng(3), dtype=dtype), torch.randn((), generator=rng(4), dtype=dtype)
    wide = [x.double().requires_grad_() for x in (a, b, weight, bias)]
    z = torch.stack([torch.tanh(wide[0] + row) @ wide[2] + wide[3] for row in wide[1]])  # [m, n]
    flow, share = torch.rand(8, 6, generator=rng(5), dtype=dtype), torch.rand(6, generator=rng(6), dtype=dtype)
    torch.nn.functional.logsigmoid(z).backward(flow.double() * share.double())
    gate = Gate(a, b, weight, bias)
    close = {"rtol": 1e-9, "atol": 1e-11} if dtype == torch.float64 else {"rtol": 2e-5, "atol": 2e-5 * scale}
    for start, stop in ((0, 4), (4, 6)):
        x = torch.zeros(8, stop - start, dtype=dtype)
        closed = gate.add_log(x, start, stop)
        torch.testing.assert_close(x.double(), torch.nn.functional.logsigmoid(z[:, start:stop]).detach(), **close)
        torch.testing.assert_close(closed.double(), 1 - torch.sigmoid(z[:, start:stop]).detach(), **close)
        gate.pull(flow[:, start:stop].contiguous(), closed, share[start:stop], start, stop)
    for found, x in zip(gate.gradients, wide, strict=True):
        torch.testing.assert_close(found.double(), x.grad, **close)
