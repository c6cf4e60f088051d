"""The exponential kernel against float64."""

import numpy as np
import pytest
import torch

from graphcl.ops import exp_columns


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("given", [False, True])
def test_columns_less_their_maximum(dtype, given):
    x = torch.randn(5, 999, generator=torch.Generator().manual_seed(0), dtype=torch.float64).mul(20).to(dtype)
    x[2, 3:7] = -torch.inf
    x[4] = -torch.inf
    shift = torch.arange(5, dtype=dtype) * 10 + 30 if given else None
    exact = (x - (x.amax(1) if shift is None else shift)[:, None]).double()  # the difference is rounded to dtype
    exact = torch.where(x == -torch.inf, 0.0, exact.exp()).numpy()
    x = x.T.contiguous()
    top, total = exp_columns(x, shift)
    x = x.T
    assert torch.equal(top, shift if given else torch.where(torch.arange(5) == 4, -torch.inf, top))
    tolerance = 2e-6 if dtype == torch.float32 else 1e-12
    np.testing.assert_allclose(x.double().numpy(), exact, rtol=tolerance, atol=2e-38)
    np.testing.assert_allclose(total.double().numpy(), exact.sum(1), rtol=tolerance, atol=2e-38)
    assert (x[2, 3:7] == 0).all()
    assert total[4] == 0


def test_every_exponent_of_float32():
    """From where results are normal numbers to 0, densely; below -87 exactly 0."""
    values = torch.linspace(-87, 0, 200_001)
    x = values[:, None].clone()
    exp_columns(x)
    np.testing.assert_allclose(x[:, 0].double().numpy(), values.double().exp().numpy(), rtol=1e-6)
    x = torch.tensor([[-1e30], [-200.0], [-87.5], [0.0]])
    exp_columns(x)
    assert x[:, 0].tolist() == [0, 0, 0, 1]


def test_nan_is_not_hidden():
    x = torch.tensor([[0.0, 0.0], [torch.nan, 0.0], [1.0, 0.0]])
    _, total = exp_columns(x)
    assert total.isnan().tolist() == [True, False]


def test_empty():
    top, total = exp_columns(torch.zeros(0, 3))
    assert top.tolist() == [-torch.inf] * 3
    assert total.tolist() == [0] * 3
