"""Weighted InfoNCE against the dense formula in float64: values, every gradient, any tile."""

import itertools

import pytest
import torch
from torch import Tensor

from graphcl.contracts import Pair, Table
from graphcl.objectives import AllKeys, InfoNCE, WeightedInfoNCE
from tests.objectives.dense import csr

N, M, D, H = 37, 41, 6, 5


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(count: int, seed: int, dtype=torch.float64) -> Tensor:
    x = torch.randn(count, D, generator=rng(seed), dtype=torch.float64)
    return (x / x.norm(dim=1, keepdim=True)).to(dtype).requires_grad_()


def made(dtype=torch.float64, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, keys, positives (one comes twice), ids under three clusterings."""
    positives = torch.randperm(M, generator=rng(seed))[:N]
    positives[1] = positives[0]
    ids = torch.stack([torch.randint(0, k, (M,), generator=rng(seed + k)) for k in (2, 5, 9)], 1)
    return rows(N, seed + 1, dtype), rows(M, seed + 2, dtype), positives, ids


def dense(q: Tensor, k: Tensor, positives: Tensor, gamma: Tensor, temperature: float, weights: Tensor | None = None) -> Tensor:
    """Row by row, by logarithms."""
    losses = []
    for i in range(len(q)):
        logits = k @ q[i] / temperature
        losses.append(
            torch.logsumexp(torch.where(gamma[i] > 0, logits + gamma[i].clamp_min(1e-300).log(), -torch.inf), 0)
            - logits[positives[i]]
        )
    share = torch.ones(len(q), dtype=q.dtype) if weights is None else weights.to(q.dtype)
    return (torch.stack(losses) * share).sum() / share.sum()


def by_clusters(positives: Tensor, ids: Tensor) -> Tensor:
    return torch.stack([(ids[p] != ids).sum(1) for p in positives]).double()


def by_gate(objective: WeightedInfoNCE, q: Tensor, k: Tensor) -> Tensor:
    inner, outer = objective.inner, objective.outer
    gamma = []
    for row in q:
        z = torch.tanh((row + k) @ inner.weight.T + inner.bias) @ outer.weight[0] + outer.bias
        gamma.append(torch.sigmoid(z))
    gamma = torch.stack(gamma)
    return gamma / gamma.mean(1, keepdim=True) if objective.mode == "normalised" else gamma


def gradients(loss: Tensor, of) -> list[Tensor]:
    return list(torch.autograd.grad(3.0 * loss, list(of)))


TILES = (1, 7 * M, N * M)


@pytest.mark.parametrize(("tile", "temperature"), list(itertools.product(TILES, (0.01, 0.4))))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_cluster_weights(tile, temperature, dtype):
    q, k, positives, ids = made(dtype)
    objective = WeightedInfoNCE(temperature, "cluster", tile_entries=tile)
    ours = objective(Pair(q, Table(k), positives), ids)
    wide = [x.detach().double().requires_grad_() for x in (q, k)]
    expected = dense(*wide, positives, by_clusters(positives, ids), temperature)
    close = {"rtol": 1e-9, "atol": 1e-11} if dtype == torch.float64 else {"rtol": 2e-5, "atol": 2e-5}
    torch.testing.assert_close(ours.double(), expected, **close)
    for a, b in zip(gradients(ours, (q, k)), gradients(expected, wide), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=close["rtol"] * 5, atol=close["atol"] * b.abs().max().item())


@pytest.mark.parametrize(("tile", "mode"), list(itertools.product(TILES, ("joint", "normalised"))))
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_learned_weights(tile, mode, dtype):
    q, k, positives, _ = made(dtype)
    objective = WeightedInfoNCE(0.3, "learned", dim=D, hidden=H, mode=mode, tile_entries=tile, rng=rng()).to(dtype)
    ours = objective(Pair(q, Table(k), positives))
    wide = WeightedInfoNCE(0.3, "learned", dim=D, hidden=H, mode=mode, rng=rng()).double()
    wide.load_state_dict({name: value.double() for name, value in objective.state_dict().items()})
    inputs = [x.detach().double().requires_grad_() for x in (q, k)]
    expected = dense(*inputs, positives, by_gate(wide, *inputs), 0.3)
    close = {"rtol": 1e-9, "atol": 1e-11} if dtype == torch.float64 else {"rtol": 5e-5, "atol": 5e-5}
    torch.testing.assert_close(ours.double(), expected, **close)
    found = gradients(ours, (q, k, *objective.parameters()))
    for a, b in zip(found, gradients(expected, (*inputs, *wide.parameters())), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=close["rtol"] * 5, atol=close["atol"] * max(b.abs().max().item(), 1e-3))


def test_large_gates_leave_the_kernel_and_stay_right():
    """Units beyond the reach of the exponentials take torch's path."""
    q, k, positives, _ = made(torch.float32)
    objective = WeightedInfoNCE(0.3, "learned", dim=D, hidden=H, rng=rng())
    with torch.no_grad():
        objective.inner.weight *= 200
    wide = WeightedInfoNCE(0.3, "learned", dim=D, hidden=H, rng=rng()).double()
    wide.load_state_dict({name: value.double() for name, value in objective.state_dict().items()})
    expected = dense(q.double(), k.double(), positives, by_gate(wide, q.double(), k.double()), 0.3)
    torch.testing.assert_close(objective(Pair(q, Table(k), positives)).double(), expected, rtol=1e-4, atol=1e-4)


def test_without_weights_it_is_infonce():
    q, k, positives, _ = made()
    pair = Pair(q, Table(k), positives)
    torch.testing.assert_close(WeightedInfoNCE(0.2)(pair), InfoNCE(0.2, "dot", AllKeys())(pair))
    ones = torch.ones(N, M, dtype=torch.float64)
    torch.testing.assert_close(WeightedInfoNCE(0.2)(pair), dense(q, k, positives, ones, 0.2))


@pytest.mark.parametrize("weights", ["cluster", "learned"])
def test_cosine_and_counted_anchors(weights):
    q, k, positives, ids = made()
    counts = torch.randint(1, 5, (N,), generator=rng(9))
    objective = WeightedInfoNCE(0.3, weights, similarity="cosine", dim=D, hidden=H, rng=rng()).double()
    longer = Pair(q * 3, Table(k * torch.rand(M, 1, generator=rng(4), dtype=torch.float64).add(0.5)), positives, weights=counts)
    ours = objective(longer, *([ids] if weights == "cluster" else []))
    gamma = by_clusters(positives, ids) if weights == "cluster" else by_gate(objective, q, k)
    torch.testing.assert_close(ours, dense(q, k, positives, gamma, 0.3, counts))


def test_the_gradient_does_not_see_a_common_scale_of_the_weights():
    q, k, positives, ids = made()
    twice = torch.cat([ids, ids], 1)  # every weight doubled
    objective = WeightedInfoNCE(0.3, "cluster")
    one, two = (objective(Pair(q, Table(k), positives), each) for each in (ids, twice))
    assert float((two - one).detach()) == pytest.approx(0.6931471805599453)
    for a, b in zip(gradients(one, (q, k)), gradients(two, (q, k)), strict=True):
        torch.testing.assert_close(a, b)


def test_one_cluster_for_all_says_nothing():
    q, k, positives, ids = made()
    loss = WeightedInfoNCE(0.3, "cluster")(Pair(q, Table(k), positives), torch.zeros_like(ids))
    assert float(loss.detach()) == 0
    assert not any(g.any() for g in gradients(loss, (q, k)))


def test_zero_rows_are_finite():
    q, k, positives, ids = made(torch.float32)
    q, k = torch.zeros_like(q).requires_grad_(), torch.zeros_like(k).requires_grad_()
    for objective, more in ((WeightedInfoNCE(0.01, "cluster"), [ids]), (WeightedInfoNCE(0.01, "learned", dim=D, rng=rng()), [])):
        loss = objective(Pair(q, Table(k), positives), *more)
        assert all(g.isfinite().all() for g in (loss, *gradients(loss, (q, k))))


def test_parameters_are_drawn_from_the_generator_alone():
    before = torch.get_rng_state()
    one, two = (WeightedInfoNCE(0.3, "learned", dim=D, rng=rng(3)) for _ in range(2))
    assert (torch.get_rng_state() == before).all()
    assert all((a == b).all() for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert one.inner.weight.abs().max() <= D**-0.5


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"temperature": 0.0}, "temperature must be above 0"),
        ({"weights": "clusters"}, "weights must be one of none, cluster, learned"),
        ({"weights": "learned"}, "needs dim, the width of the rows, and rng"),
        ({"weights": "cluster", "mode": "normalised"}, "is for weights='learned'"),
        ({"similarity": "euclid"}, "similarity must be one of dot, cosine"),
        ({"tile_entries": 0}, "tile_entries must be 1 or more"),
    ],
)
def test_settings_that_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        WeightedInfoNCE(**{"temperature": 0.2, **settings})


def test_calls_that_are_refused():
    q, k, positives, ids = made()
    pair = Pair(q, Table(k), positives)
    with pytest.raises(ValueError, match="needs assignments"):
        WeightedInfoNCE(0.2, "cluster")(pair)
    with pytest.raises(ValueError, match="takes no assignments"):
        WeightedInfoNCE(0.2)(pair, ids)
    for wrong in (ids[:-1], ids[:, 0], ids.double(), ids - 1):
        with pytest.raises(ValueError, match=r"assignments must be int64|cluster ids must lie"):
            WeightedInfoNCE(0.2, "cluster")(pair, wrong)
    with pytest.raises(ValueError, match="one positive a query"):
        WeightedInfoNCE(0.2, "cluster")(Pair(q, Table(k), csr(torch.eye(N, M, dtype=torch.float64))), ids)
    with pytest.raises(ValueError, match="rows of width 3, got 6"):
        WeightedInfoNCE(0.2, "learned", dim=3, rng=rng()).double()(pair)
