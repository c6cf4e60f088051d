"""Attention within segments against loops over pairs, in value, gradient and dropout."""

import math

import pytest
import torch

from graphcl.ops import causal_attention
from graphcl.ops.causal_attention import _padded
from graphcl.streams import borrowed

LENGTHS = [3, 1, 0, 12, 5]
POINTERS = torch.tensor([0, *LENGTHS]).cumsum(0)
N, HEADS, WIDTH = sum(LENGTHS), 2, 5


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def weights(qkv, head):
    """[N, N], zero between segments and towards what comes later."""
    q, k, _ = qkv.view(N, 3, HEADS, WIDTH)[:, :, head].unbind(1)
    found = torch.zeros(N, N, dtype=qkv.dtype)
    for first, stop in zip(POINTERS[:-1].tolist(), POINTERS[1:].tolist(), strict=True):
        for i in range(first, stop):
            found[i, first : i + 1] = (k[first : i + 1] @ q[i] / math.sqrt(WIDTH)).softmax(0)
    return found


def dense(qkv, kept):  # [HEADS, N, N]: what each weight is multiplied by
    values = qkv.view(N, 3, HEADS, WIDTH)[:, 2]
    return torch.cat([weights(qkv, h) * kept[h] @ values[:, h] for h in range(HEADS)], 1)


def of(qkv, share=0.0, seed=1):
    with borrowed(torch.Generator().manual_seed(seed)):
        return causal_attention(qkv, POINTERS, HEADS, share, longest=12)


def test_values_and_gradients():
    qkv, grad = drawn(N, 3 * HEADS * WIDTH).requires_grad_(), drawn(N, HEADS * WIDTH, seed=1)
    expected = dense(qkv, torch.ones(HEADS, N, N))
    (slow,) = torch.autograd.grad(expected, qkv, grad)
    for found in (of(qkv), _padded(qkv, POINTERS, HEADS, 0.0, 12), _padded(qkv, POINTERS, HEADS, 0.0, 14)):
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(torch.autograd.grad(found, qkv, grad)[0], slow)


def kept_of(qkv, share, seed=1):
    """What dropout made of each weight: with the unit vectors as values and as many columns as tokens, the output shows it."""
    factors = []
    for head in range(HEADS):
        rows = []
        for j in range(0, N, WIDTH):  # WIDTH tokens at a time
            parts = qkv.detach().clone().view(N, 3, HEADS, WIDTH)
            parts[:, 2] = 0
            size = min(WIDTH, N - j)
            parts[j : j + size, 2, head, :size] = torch.eye(size, dtype=qkv.dtype)
            rows.append(of(parts.view(N, -1), share, seed).view(N, HEADS, WIDTH)[:, head, :size])
        dropped = torch.cat(rows, 1)
        whole = weights(qkv, head)
        factors.append(torch.where(whole > 0, dropped / whole, 0.0))
    return torch.stack(factors).detach()


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_dropout_of_weights(share):
    qkv, grad = drawn(N, 3 * HEADS * WIDTH).requires_grad_(), drawn(N, HEADS * WIDTH, seed=1)
    kept = kept_of(qkv, share)
    real = weights(qkv, 0) > 0
    values = kept[:, real]
    assert ((values < 1e-9) | ((values - 1 / (1 - share)).abs() < 1e-9)).all()
    found = of(qkv, share)
    expected = dense(qkv, kept)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, qkv, grad)[0], torch.autograd.grad(expected, qkv, grad)[0])


def test_rate_and_independence_of_dropout():
    n, share = 400, 0.3
    qkv = torch.zeros(n, 3 * HEADS * 1)
    qkv[:, 4:] = 1  # equal weights, values of one: an output is the share that was kept, over .7
    with borrowed(torch.Generator().manual_seed(0)):
        found = causal_attention(qkv, torch.tensor([0, n]), HEADS, share, longest=n)
    counts = (found * 0.7 * torch.arange(1, n + 1)[:, None]).round()
    pairs = n * (n + 1) / 2
    for head in range(HEADS):
        assert float(counts[:, head].sum() / pairs) == pytest.approx(0.7, abs=5 * (0.21 / pairs) ** 0.5)
    shares = counts / torch.arange(1, n + 1)[:, None]
    centred = (shares - 0.7) / (0.21 / torch.arange(1, n + 1)[:, None]).sqrt()
    assert float((centred[:, 0] * centred[:, 1]).mean()) == pytest.approx(0, abs=5 / n**0.5)  # heads
    assert float((centred[1:, 0] * centred[:-1, 0]).mean()) == pytest.approx(0, abs=5 / n**0.5)  # queries
    assert float(centred.square().mean()) == pytest.approx(1, abs=0.4)  # keys


def test_draws_are_the_generators():
    qkv = drawn(N, 3 * HEADS * WIDTH)
    assert torch.equal(of(qkv, 0.5, 1), of(qkv, 0.5, 1))
    assert not torch.equal(of(qkv, 0.5, 1), of(qkv, 0.5, 2))


def test_single_precision_large_scores_and_nothing_at_all():
    qkv = drawn(N, 3 * HEADS * WIDTH) * 30
    torch.testing.assert_close(of(qkv.float()), of(qkv).float(), rtol=1e-3, atol=1e-3)
    empty = causal_attention(torch.empty(0, 30), torch.tensor([0]), HEADS, 0.5, longest=1)
    assert empty.shape == (0, 10)
