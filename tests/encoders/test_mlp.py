"""The perceptron against its formula, sparse and in parts."""

import pytest
import torch
from scipy import sparse
from torch.testing import assert_close

from graphcl.encoders import mlp
from graphcl.encoders.mlp import MLP
from graphcl.ops import Sparse


def made(*widths):
    return MLP(widths, rng=torch.Generator().manual_seed(0)).double()


def slow(net, x):
    for number, layer in enumerate(net.layers):
        x = x @ layer.weight.T + layer.bias
        if number < len(net.layers) - 1:
            x = torch.where(x > 0, x, 0.0)
    return x


@pytest.mark.parametrize("widths", [(5, 3), (5, 4, 3), (5, 4, 6, 3)])
@pytest.mark.parametrize("rows", [2**14, 4])
@pytest.mark.parametrize("stored", [False, True])
def test_equals_its_formula(widths, rows, stored, monkeypatch):
    monkeypatch.setattr(mlp, "_ROWS", rows)  # 4: in parts that are made again
    x = torch.randn(11, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = x * (x > 0.3)
    net = made(*widths)
    got = net(Sparse.from_scipy(sparse.csr_matrix(x.numpy()), dtype=torch.float64) if stored else x)
    expected = slow(net, x)
    assert_close(got, expected, rtol=1e-12, atol=1e-12)
    upstream = torch.randn(11, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    parameters = list(net.parameters())
    for a, b in zip(
        torch.autograd.grad(got, parameters, upstream), torch.autograd.grad(expected, parameters, upstream), strict=True
    ):
        assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("widths", [(5,), (5, 0, 3)])
def test_bad_widths(widths):
    with pytest.raises(ValueError, match="widths are two or more numbers"):
        made(*widths)
