"""Sampled softmax against its formula, draw by draw and in expectation."""

import math

import pytest
import torch
from torch.testing import assert_close

from graphcl.contracts import Pair
from graphcl.objectives import AllKeys, InfoNCE, Sampled
from tests.objectives.dense import Table, csr, table

N, M, D, T = 5, 12, 4, 0.7
POSITIVES = torch.tensor([3, 1, 7, 8, 3])


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def popularity():
    return {"node": torch.arange(M, dtype=torch.float64)}  # key 0 is never drawn


def unit(x):
    return x / x.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("log_q", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
def test_one_draw(log_q, weighted):
    """The keys that are drawn, found again by the same stream; positives are masked among them and added once."""
    query, key = table(N, D, 0), table(M, D, 1)
    weights = torch.rand(M, generator=rng(5), dtype=torch.float64) + 0.2
    banned = torch.zeros(N, M)
    banned[0, 5] = banned[2, 7] = banned[4, :] = 1
    made = Sampled(30, popularity=popularity() if weighted else None, log_q=log_q, rng=rng())
    made.eval()
    got = made(query, Table(key), POSITIVES, temperature=T, key_weights=weights, exclude=csr(banned))
    if weighted:
        chance = popularity()["node"] ** 0.75
        chance = chance / chance.sum()
        drawn = torch.searchsorted(
            chance.cumsum(0), torch.rand(30, generator=rng(), dtype=torch.float64) * chance.cumsum(0)[-1], right=True
        )
    else:
        chance = torch.full((M,), 1 / M, dtype=torch.float64)
        drawn = torch.randint(M, (30,), generator=rng())
    assert not weighted or 0 not in drawn
    expected = []
    for i in range(N):
        terms = [] if banned[i, POSITIVES[i]] else [query[i] @ key[POSITIVES[i]] / T + weights[POSITIVES[i]].log()]
        for j in drawn.tolist():
            if j != POSITIVES[i] and not banned[i, j]:
                terms.append(query[i] @ key[j] / T + weights[j].log() - (math.log(30 * chance[j]) if log_q else 0))
        expected.append(torch.stack(terms).logsumexp(0) if terms else torch.tensor(-torch.inf, dtype=torch.float64))
    expected = torch.stack(expected)
    assert expected[4] == -torch.inf
    assert_close(got, expected, rtol=1e-10, atol=1e-10)
    kept = expected != -torch.inf
    mine = torch.autograd.grad(torch.where(kept, got, 0.0).sum(), (query, key))
    theirs = torch.autograd.grad(expected[kept].sum(), (query, key))
    for a, b in zip(mine, theirs, strict=True):
        assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [True, False])
def test_unbiased(weighted):
    query, key = table(N, D, 0).detach(), table(M, D, 1).detach()
    chance = {"node": torch.arange(1, M + 1, dtype=torch.float64)}
    exact = AllKeys()(query, Table(key), POSITIVES, temperature=T, normalise=True).exp()
    made = Sampled(6, popularity=chance if weighted else None, rng=rng())
    draws = torch.stack([made(query, Table(key), POSITIVES, temperature=T, normalise=True).exp() for _ in range(4000)])
    error = draws.std(0) / math.sqrt(4000)
    assert bool(((draws.mean(0) - exact).abs() < 4 * error).all())
    assert bool((error < 0.02 * exact).all())
    without = Sampled(6, popularity=chance, log_q=False, rng=rng())
    biased = torch.stack([without(query, Table(key), POSITIVES, temperature=T, normalise=True).exp() for _ in range(500)]).mean(0)
    assert bool(((biased - exact).abs() > 0.1 * exact).all())


def test_several_positives_and_the_decoupled_form():
    query, key = table(N, D, 0), table(M, D, 1)
    positives = torch.zeros(N, M, dtype=torch.float64)
    positives[0, [1, 4]] = positives[2, 3] = 1
    made = Sampled(50, rng=rng())
    lse = made(query, Table(key), csr(positives), temperature=T)
    with_them = Sampled(50, rng=rng())(query, Table(key), csr(positives), temperature=T, exclude=csr(positives))
    own = torch.stack([query[0] @ key[1] / T, query[0] @ key[4] / T]).logsumexp(0)
    assert_close(lse[0], torch.logaddexp(with_them[0], own))
    loss = InfoNCE(T, negatives=Sampled(50, rng=rng()), positive_in_denominator=False)(Pair(query, Table(key), POSITIVES))
    assert loss.isfinite()


def test_gap_of_a_biased_logarithm_is_below():
    g = rng(3)
    query, key = unit(torch.randn(300, 8, generator=g)), unit(torch.randn(2000, 8, generator=g))
    made = Sampled(20, rng=g)
    made(query, Table(key), torch.arange(300), temperature=0.05)
    assert made.gaps["node"].mean < -0.2


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Sampled(0), "count must be 1 or more"),
        (lambda: Sampled(popularity={"node": torch.tensor([1.0, -1.0])}), "popularity of kind 'node' must be 0 or more"),
        (lambda: Sampled(popularity={"node": torch.zeros(3)}), "above 0 for some key"),
        (
            lambda: Sampled(popularity={"node": torch.ones(3)}, rng=rng())(
                table(N, D, 0), Table(table(M, D, 1)), POSITIVES, temperature=T
            ),
            "popularity is of 3 keys",
        ),
        (
            lambda: Sampled(popularity={"item": torch.ones(M)}, rng=rng())(
                table(N, D, 0), Table(table(M, D, 1)), POSITIVES, temperature=T
            ),
            "popularity is given of kind item, not of 'node'",
        ),
    ],
)
def test_bad_input(make, told):
    with pytest.raises(ValueError, match=told):
        make()


def test_without_a_stream():
    with pytest.raises(RuntimeError, match="give it rng"):
        Sampled()(table(N, D, 0), Table(table(M, D, 1)), POSITIVES, temperature=T)
