"""One pass over the keys where the upstream gradient is foreseen; the same numbers where it is not, or comes otherwise."""

import pytest
import torch
from torch.testing import assert_close

from graphcl.objectives import log_sum_exp as module
from graphcl.objectives.log_sum_exp import log_sum_exp

N, M, D = 70, 90, 5


def tables(dtype=torch.float64):
    rng = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=rng, dtype=torch.float64)  # noqa: E731
    query, keys, bias = draw(N, D), draw(M, D), draw(M)
    banned = torch.rand(N, M, generator=rng) < 0.1
    banned[3] = True  # an anchor without any key
    banned[:, 7] = True
    return query.to(dtype).requires_grad_(), keys.to(dtype).requires_grad_(), bias.to(dtype), banned


def dense(query, keys, bias, banned, temperature):
    logits = query @ keys.T / temperature + bias
    return torch.logsumexp(logits.masked_fill(banned, -torch.inf), 1)


def gradients(lse, inputs, upstream):
    counted = lse != -torch.inf
    return torch.autograd.grad((lse[counted] * upstream[counted]).sum(), inputs)


@pytest.fixture(params=[M, 40, 13], ids=["one tile", "three tiles", "seven tiles"])
def width(request, monkeypatch):
    monkeypatch.setattr(module, "_KEYS", request.param)


@pytest.mark.parametrize("tile_entries", [N * M, 33 * M, 32 * M, 8 * M, 1])  # a block, three, three, keys by tiles twice
@pytest.mark.parametrize("known", ["alike", "by half", "otherwise", "not at all"])
@pytest.mark.usefixtures("width")
def test_value_and_gradient(tile_entries, known):
    query, keys, bias, banned = tables()
    upstream = torch.rand(N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    upstream[5] = 0
    told = {"alike": upstream, "by half": upstream / 2, "otherwise": torch.ones(N, dtype=torch.float64), "not at all": None}[
        known
    ]
    order = torch.randperm(int(banned.sum()), generator=torch.Generator().manual_seed(2))
    entries = tuple(each[order] for each in banned.nonzero(as_tuple=True))
    got = log_sum_exp(query, keys, 0.3, tile_entries=tile_entries, bias=bias, banned=entries, weights=told)
    expected = dense(query, keys, bias, banned, 0.3)
    assert_close(got, expected, rtol=1e-12, atol=1e-12)
    assert got[3] == -torch.inf
    for mine, theirs in zip(gradients(got, (query, keys), upstream), gradients(expected, (query, keys), upstream), strict=True):
        assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_a_foreseen_gradient_costs_three_products(monkeypatch):
    query, keys, *_ = tables()
    monkeypatch.setattr(module, "_gradients", lambda *_: pytest.fail("tiles were computed again"))
    weights = torch.rand(N, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    (log_sum_exp(query, keys, 0.3, tile_entries=N * M, weights=weights) @ weights).backward()
    assert query.grad.abs().sum() > 0


def test_float32_within_rounding(monkeypatch):
    monkeypatch.setattr(module, "_KEYS", 40)
    exact = dense(*tables(), 0.1)
    query, keys, bias, banned = tables(torch.float32)
    got = log_sum_exp(
        query, keys, 0.1, tile_entries=33 * M, bias=bias, banned=banned.nonzero(as_tuple=True), weights=torch.ones(N)
    )  # fmt: skip
    assert_close(got.double(), exact, rtol=1e-6, atol=1e-5)


def test_two_backward_passes():
    """What is kept for the backward is not used up by it."""
    query, keys, *_ = tables()
    total = log_sum_exp(query, keys, 0.3, tile_entries=N * M, weights=torch.ones(N)).mean()
    first = torch.autograd.grad(total, keys, retain_graph=True)[0].clone()
    assert_close(torch.autograd.grad(total, keys)[0], first, rtol=1e-12, atol=0)


def test_no_keys_and_no_anchors():
    query, keys, *_ = tables()
    assert log_sum_exp(query, keys[:0], 0.3, tile_entries=10, weights=torch.ones(N)).tolist() == [-torch.inf] * N
    assert log_sum_exp(query[:0], keys, 0.3, tile_entries=10, weights=torch.ones(0)).shape == (0,)
