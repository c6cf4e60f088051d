"""Slow float64 references that the objectives' tests share: loops over anchors, no tricks."""

import math

import torch
from torch import Tensor
from torch.testing import assert_close

from graphcl.contracts import Pair
from graphcl.testing import Table as Table


def table(rows: int, columns: int, seed: int, scale: float = 1.0) -> Tensor:
    made = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale
    return made.requires_grad_()


def csr(dense: Tensor) -> Tensor:
    """A sparse CSR of a small dense matrix; zeros are not stored."""
    return dense.to_sparse_csr()


def similarity(a: Tensor, b: Tensor, cosine: bool) -> Tensor:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    if not cosine:
        return dot
    norm_a, norm_b = sum(x * x for x in a), sum(y * y for y in b)
    if norm_a == 0 or norm_b == 0:
        return 0 * dot
    return dot / norm_a.sqrt() / norm_b.sqrt()


def infonce(
    query: Tensor,
    key: Tensor,
    positives: Tensor,  # dense [n, m] weights of positives
    among: Tensor,  # bool [n, m]: who stands in the denominator
    *,
    temperature: float,
    cosine: bool = True,
    key_weights: Tensor | None = None,
    clamp: float | None = None,
    several: str = "each",
) -> list[Tensor | None]:
    """One term for each anchor; None for an anchor that does not count."""
    terms: list[Tensor | None] = []
    for i in range(len(query)):
        denominator, hits, total = [], [], 0.0
        for j in range(len(key)):
            s = similarity(query[i], key[j], cosine) / temperature
            if among[i, j]:
                denominator.append(s + (0 if key_weights is None else math.log(key_weights[j].item())))
            if positives[i, j] > 0:
                bounded = s if clamp is None or abs(s.item()) <= clamp else s.detach().clamp(-clamp, clamp)
                hits.append((positives[i, j].item(), bounded))
                total += positives[i, j].item()
        if not denominator or not hits:
            terms.append(None)
            continue
        top = max(x.item() for x in denominator)
        lse = top + sum((x - top).exp() for x in denominator).log()
        if several == "each":
            positive = sum(w * s for w, s in hits) / total
        else:
            peak = max(s.item() for _, s in hits)
            positive = peak + sum(w * (s - peak).exp() for w, s in hits).log()
        terms.append(lse - positive)
    return terms


def reduced(terms: list[Tensor | None], weights: list[float] | None = None, reduction: str = "mean") -> Tensor:
    weights = weights or [1.0] * len(terms)
    pairs = [(w, t) for w, t in zip(weights, terms, strict=True) if t is not None]
    total = sum(w * t for w, t in pairs)
    return total if reduction == "sum" else total / sum(w for w, _ in pairs)


def agree(objective, pair: Pair, expected: Tensor, query: Tensor, key: Tensor) -> None:
    """The objective's value and both gradients are those of the slow formula."""
    got = objective(pair)
    assert_close(got, expected, rtol=1e-12, atol=1e-12)
    ours, theirs = (
        torch.autograd.grad(loss, (query, key), allow_unused=True, materialize_grads=True) for loss in (got, expected)
    )
    for mine, slow in zip(ours, theirs, strict=True):
        assert_close(mine, slow, rtol=1e-10, atol=1e-12)
