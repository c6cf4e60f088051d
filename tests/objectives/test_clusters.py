"""Cluster-level denominators against dense float64 formulas, and the properties that they are chosen for."""

import math

import pytest
import torch
from torch.testing import assert_close

from graphcl.contracts import Pair
from graphcl.objectives import AllKeys, Approximate, Clusters, ClusterSampled, ClusterState, Gap, InfoNCE, Partition, cluster_sums
from graphcl.objectives.cluster_sums import cluster_log_sum_exp
from tests.objectives.dense import Table, csr, table

N, M, K, D, T = 7, 23, 5, 4, 0.3
POSITIVES = torch.tensor([3, 1, 7, 8, 0, 5, 20])


def ids(seed=11, count=K, m=M):
    """Cluster 2 is empty and cluster 4 has one key."""
    drawn = torch.tensor([0, 1, 3])[torch.randint(3, (m,), generator=torch.Generator().manual_seed(seed))]
    drawn[9] = 4
    return drawn


def fixed(assigned, count=None):
    return ClusterState({"node": len(assigned)}, given={"node": assigned})


def excluded():
    banned = torch.zeros(N, M)
    banned[0, 0] = banned[0, 3] = banned[2, 9] = banned[5, 4] = banned[5, 5] = 1
    banned[3, ids() == 1] = 1  # a whole cluster
    banned[6, :] = 1  # every key
    return banned


def key_weights():
    return torch.rand(M, generator=torch.Generator().manual_seed(5), dtype=torch.float64) + 0.2


def slow(query, key, shares, weights, *, order, exact, dropped, banned, temperature=T):
    """Anchor by anchor, with every cluster made anew from the keys that are left."""
    out = []
    for i in range(len(query)):
        terms = []
        left = weights * (1 - banned[i]).to(weights)
        for c in range(shares.shape[1]):
            if (i, c) in dropped:
                continue
            if (i, c) in exact:
                terms += [
                    left[j].log() + query[i] @ key[j] / temperature for j in range(len(key)) if shares[j, c] > 0 and left[j] > 0
                ]
                continue
            mass = left * shares[:, c]
            if not (mass > 0).any():
                continue
            total = mass.sum()
            dots = key @ query[i]
            mean = (mass * dots).sum() / total
            logit = total.log() + mean / temperature
            v = (mass * (dots - mean) ** 2).sum() / total / temperature**2
            logit = logit + (v / 2 if order == 2 else (1 + v / 2).log() if order == "2t" else 0)
            terms.append(logit)
        out.append(torch.stack(terms).logsumexp(0) if terms else torch.tensor(-torch.inf, dtype=query.dtype))
    return torch.stack(out)


def agree(got, expected, inputs):
    assert_close(got, expected, rtol=1e-10, atol=1e-10)
    kept = expected != -torch.inf
    upstream = table(len(got), 1, 99)[:, 0].detach()
    mine = torch.autograd.grad(torch.where(kept, got, 0.0) @ upstream, inputs)
    theirs = torch.autograd.grad(expected[kept] @ upstream[kept], inputs)
    for a, b in zip(mine, theirs, strict=True):
        assert_close(a, b, rtol=1e-8, atol=1e-10)


def unit(x):
    return x / x.norm(dim=1, keepdim=True)


@pytest.mark.parametrize(("own", "few"), [("exact", 64), ("exact", 0), ("approx", 0), ("drop", 0)])
@pytest.mark.parametrize("order", [1, 2, "2t"])
@pytest.mark.parametrize("options", ["plain", "weights", "exclude", "both"])
@pytest.mark.parametrize("normalise", [False, True])
def test_equals_clusters_made_anew(own, few, order, options, normalise, monkeypatch):
    """Excluded keys leave their cluster as if it had been made without them. Few anchors a cluster are scored by a kernel."""
    monkeypatch.setattr(cluster_sums, "_FEW", few)
    query, key, assigned = table(N, D, 0), table(M, D, 1), ids()
    weights = key_weights() if options in ("weights", "both") else None
    banned = excluded() if options in ("exclude", "both") else torch.zeros(N, M)
    got = Clusters(fixed(assigned), order=order, own_cluster=own)(
        query, Table(key), POSITIVES, temperature=T, key_weights=weights, normalise=normalise,
        exclude=csr(banned) if options in ("exclude", "both") else None,
    )  # fmt: skip
    pairs = {(i, int(assigned[p])) for i, p in enumerate(POSITIVES)}
    expected = slow(
        query, unit(key) if normalise else key, torch.eye(K, dtype=torch.float64)[assigned],
        torch.ones(M, dtype=torch.float64) if weights is None else weights, order=order, banned=banned,
        exact=pairs if own == "exact" else set(), dropped=pairs if own == "drop" else set(),
    )  # fmt: skip
    agree(got, expected, (query, key))


@pytest.mark.parametrize("own", ["exact", "approx", "drop"])
def test_own_clusters_of_several_positives(own):
    query, key, assigned = table(N, D, 0), table(M, D, 1), ids()
    positives = torch.zeros(N, M)
    positives[0, [0, 9, 3]] = positives[2, 5] = positives[5, [20, 21, 22]] = 1
    pairs = {(i, int(assigned[j])) for i, j in positives.nonzero().tolist()}
    got = Clusters(fixed(assigned), own_cluster=own)(query, Table(key), csr(positives), temperature=T)
    expected = slow(
        query, key, torch.eye(K, dtype=torch.float64)[assigned], torch.ones(M, dtype=torch.float64), order=1, banned=torch.zeros(N, M),
        exact=pairs if own == "exact" else set(), dropped=pairs if own == "drop" else set(),
    )  # fmt: skip
    agree(got, expected, (query, key))


def test_probes_are_the_largest_clusters():
    query, key, assigned = table(N, D, 0), table(M, D, 1), ids()
    sums = torch.zeros(K, D, dtype=torch.float64).index_add(0, assigned, key.detach())
    sizes = torch.bincount(assigned, minlength=K)
    logits = sizes.log() + query.detach() @ (sums / sizes.clamp_min(1)[:, None]).T / T
    near = {(i, c) for i in range(N) for c in logits[i].topk(2).indices.tolist()}
    got = Clusters(fixed(assigned), own_cluster="approx", probe=2)(query, Table(key), POSITIVES, temperature=T)
    ones = torch.ones(M, dtype=torch.float64)
    hard = torch.eye(K, dtype=torch.float64)[assigned]
    agree(got, slow(query, key, hard, ones, order=1, exact=near, dropped=set(), banned=torch.zeros(N, M)), (query, key))


@pytest.mark.parametrize("order", [1, 2, "2t"])
@pytest.mark.parametrize("options", ["plain", "weights", "exclude"])
def test_shared_out_keys(order, options):
    query, key = table(N, D, 0), table(M, D, 1)
    shares = torch.rand(M, K, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    shares[shares < 0.4] = 0
    shares[:, 0] += 0.01
    shares = shares / shares.sum(1, keepdim=True)
    weights = key_weights() if options == "weights" else None
    banned = excluded() if options == "exclude" else torch.zeros(N, M)
    got = Clusters(fixed(shares), order=order, own_cluster="approx")(
        query, Table(key), POSITIVES, temperature=T, key_weights=weights, exclude=csr(banned) if options == "exclude" else None
    )
    every = torch.ones(M, dtype=torch.float64) if weights is None else weights
    expected = slow(query, key, shares, every, order=order, exact=set(), dropped=set(), banned=banned)
    agree(got, expected, (query, key))
    stored = fixed(csr(shares))
    assert Partition.soft(csr(shares)).ids.tolist() == shares.argmax(1).tolist()
    assert max(len(x) for x in stored.buffers()) <= max(M + 1, int((shares > 0).sum()))  # nothing of [m, K]
    if order == 1:  # Jensen's inequality holds for shares too
        whole = AllKeys()(query, Table(key), POSITIVES, temperature=T, key_weights=weights, exclude=csr(banned))
        assert bool((got <= whole + 1e-12).all())


@pytest.mark.parametrize("temperature", [0.05, 0.2, 1.0])
def test_order_of_the_bounds(temperature):
    """S1 <= own cluster exact <= S and S1 <= probes <= S, of every anchor; all are equal with a cluster for each key."""
    query, key = unit(table(40, 8, 0)).detach(), unit(table(60, 8, 1)).detach()
    positives = torch.arange(40)
    weights = torch.rand(60, generator=torch.Generator().manual_seed(5), dtype=torch.float64) + 0.2
    assigned = torch.randint(9, (60,), generator=torch.Generator().manual_seed(3))
    given = {"temperature": temperature, "key_weights": weights}
    whole = AllKeys()(query, Table(key), positives, **given)

    def made(**options):
        return Clusters(fixed(assigned), **options)(query, Table(key), positives, **given)

    first, own, probed = made(own_cluster="approx"), made(), made(own_cluster="approx", probe=3)
    both = made(probe=3)
    for low, high in ((first, own), (own, both), (first, probed), (probed, both), (both, whole)):
        assert bool((low <= high + 1e-12).all())
        assert bool((low < high - 1e-9).any())
    each = Clusters(fixed(torch.randperm(60, generator=torch.Generator().manual_seed(4))), own_cluster="approx")
    assert_close(each(query, Table(key), positives, **given), whole, rtol=1e-12, atol=1e-12)


def test_equal_where_a_clusters_scores_are_equal():
    """Duplicate keys, clusters of different sizes: exact, though sizes matter."""
    query, rows = table(6, D, 0).detach(), table(3, D, 1).detach()
    assigned = torch.tensor([0] * 7 + [1] * 2 + [2])
    got = Clusters(fixed(assigned), own_cluster="approx")(
        query, Table(rows[assigned]), torch.zeros(6, dtype=torch.int64), temperature=0.1
    )
    assert_close(got, AllKeys()(query, Table(rows[assigned]), torch.zeros(6, dtype=torch.int64), temperature=0.1))


def test_error_is_bounded_and_quadratic():
    """P2: error <= max_c |q|^2 D_c^2 / (8 t^2), and it falls as the square of the spread and of 1 / t."""
    g = torch.Generator().manual_seed(0)
    centres, noise = (
        unit(torch.randn(6, 8, generator=g, dtype=torch.float64)),
        torch.randn(300, 8, generator=g, dtype=torch.float64),
    )
    assigned, query = torch.arange(300) % 6, unit(torch.randn(50, 8, generator=g, dtype=torch.float64))

    def error(spread, t):
        key = centres[assigned] + spread * noise
        positives = torch.zeros(50, dtype=torch.int64)
        low = Clusters(fixed(assigned), own_cluster="approx")(query, Table(key), positives, temperature=t)
        off = AllKeys()(query, Table(key), positives, temperature=t) - low
        width = max(torch.cdist(key[assigned == c], key[assigned == c]).max() for c in range(6))
        assert bool((off >= -1e-12).all())
        assert bool((off <= width**2 / (8 * t**2)).all())
        return float(off.mean())

    assert error(0.01, 0.5) / error(0.005, 0.5) == pytest.approx(4, rel=0.02)
    assert error(0.005, 0.25) / error(0.005, 0.5) == pytest.approx(4, rel=0.1)


def test_second_order_is_exact_for_gaussian_scores_nearly_and_no_bound():
    g = torch.Generator().manual_seed(1)
    key = torch.randn(20000, 3, generator=g, dtype=torch.float64) * 0.4
    query = torch.randn(5, 3, generator=g, dtype=torch.float64)
    positives = torch.zeros(5, dtype=torch.int64)

    def made(order, t):
        return Clusters(fixed(torch.zeros(20000, dtype=torch.int64)), order=order, own_cluster="approx")(
            query, Table(key), positives, temperature=t
        )

    whole = AllKeys()(query, Table(key), positives, temperature=1.0)
    assert (made(2, 1.0) - whole).abs().max() < 0.02 < (made(1, 1.0) - whole).abs().max()
    whole = AllKeys()(query, Table(key), positives, temperature=0.05)
    assert bool((made(2, 0.05) > whole).all())
    assert bool((made("2t", 0.05) < made(2, 0.05)).all())


def test_keys_of_a_cluster_are_pushed_alike_and_as_the_exact_gradient_on_average():
    """P7, to first order: within a cluster one push, which is near the mean of the exact pushes where clusters are tight."""
    g = torch.Generator().manual_seed(2)
    assigned = torch.arange(60) % 6
    key = (
        unit(torch.randn(6, 8, generator=g, dtype=torch.float64))[assigned]
        + 0.02 * torch.randn(60, 8, generator=g, dtype=torch.float64)
    ).requires_grad_()
    query = unit(torch.randn(30, 8, generator=g, dtype=torch.float64)).requires_grad_()
    given = {"temperature": 0.2}
    positives = torch.zeros(30, dtype=torch.int64)
    of_means = torch.autograd.grad(
        Clusters(fixed(assigned), own_cluster="approx")(query, Table(key), positives, **given).sum(), (query, key)
    )
    exact = torch.autograd.grad(AllKeys()(query, Table(key), positives, **given).sum(), (query, key))
    for c in range(6):
        pushes = of_means[1][assigned == c]
        assert_close(pushes, pushes[:1].expand_as(pushes), rtol=1e-10, atol=1e-14)
        assert_close(pushes[0], exact[1][assigned == c].mean(0), rtol=0.05, atol=1e-3)
    assert_close(of_means[0], exact[0], rtol=0.05, atol=0.02)
    assert not torch.allclose(of_means[0][0], of_means[0][1])  # the anchor's side is its own


def test_stopped_gradient_is_half_of_the_symmetric_one():
    """P7: one table on both sides; without the keys' half the direction is nearly the same and the length halves."""
    g = torch.Generator().manual_seed(3)
    assigned = torch.arange(200) % 10
    x = unit(
        unit(torch.randn(10, 8, generator=g, dtype=torch.float64))[assigned]
        + 0.02 * torch.randn(200, 8, generator=g, dtype=torch.float64)
    ).requires_grad_()

    def grad(gradient):
        made = Clusters(fixed(assigned), own_cluster="approx", gradient=gradient)
        return torch.autograd.grad(made(x, Table(x), torch.arange(200), temperature=0.3).mean(), x)[0]

    through, stop = grad("through"), grad("stop")
    assert torch.nn.functional.cosine_similarity(through.flatten(), stop.flatten(), 0) > 0.99
    assert stop.norm() / through.norm() == pytest.approx(0.5, abs=0.02)
    key = table(M, D, 1)
    only_query = Clusters(fixed(ids()), own_cluster="approx", gradient="stop")(
        table(N, D, 0), Table(key), POSITIVES, temperature=T
    )
    assert not torch.autograd.grad(only_query.sum(), key)[0].any()


@pytest.mark.parametrize("own", ["exact", "approx", "drop"])
@pytest.mark.parametrize("order", [1, 2])
def test_zero_vectors_and_empty_clusters_are_never_nan(own, order):
    query, key = table(N, D, 0), table(M, D, 1)
    with torch.no_grad():
        query[2], key[4], key[9] = 0, 0, 0
    for temperature in (1e-3, 1.0):
        pair = Pair(query, Table(key), POSITIVES)
        loss = InfoNCE(temperature, negatives=Clusters(fixed(ids()), own_cluster=own, order=order))(pair)
        assert loss.isfinite()
        assert all(g.isfinite().all() for g in torch.autograd.grad(loss, (query, key)))


def test_stale_centroids_would_break_the_bound():
    """P8: centroids of an older table err on both sides, those of now with the old assignment on one."""
    g = torch.Generator().manual_seed(4)
    old = unit(torch.randn(200, 8, generator=g, dtype=torch.float64))
    assigned = torch.arange(200) % 14
    new = unit(old + 0.4 * torch.randn(200, 8, generator=g, dtype=torch.float64) / math.sqrt(8) * 2)
    query, positives = unit(torch.randn(60, 8, generator=g, dtype=torch.float64)), torch.zeros(60, dtype=torch.int64)
    whole = AllKeys()(query, Table(new), positives, temperature=0.2)
    now = Clusters(fixed(assigned), own_cluster="approx")(query, Table(new), positives, temperature=0.2)
    assert bool((now <= whole).all())
    sums, sizes = Partition(assigned, 14).sums(old, None, False), torch.bincount(assigned)
    stale = (sizes.log() + query @ (sums / sizes[:, None]).T / 0.2).logsumexp(1)
    assert bool((stale > now).any())


@pytest.mark.slow
def test_cluster_sampled_is_unbiased():
    """The mean over many draws of the sum is the exact sum; of its gradient, the exact gradient."""
    query, key, assigned = table(3, D, 0), table(M, D, 1), ids()
    positives, weights = torch.tensor([3, 9, 7]), key_weights()
    banned = excluded()[:3]
    given = {"temperature": 0.7, "key_weights": weights, "exclude": csr(banned), "normalise": True}
    exact = AllKeys()(query, Table(key), positives, **given)
    made = ClusterSampled(fixed(assigned), 4, rng=torch.Generator().manual_seed(0))
    draws = torch.stack([made(query, Table(key), positives, **given).exp() for _ in range(1000)])
    error = draws.detach().std(0) / math.sqrt(1000)
    assert bool(((draws.mean(0) - exact.exp()).abs() < 4 * error).all())
    assert bool((error < 0.04 * exact.exp()).all())
    mine = torch.autograd.grad(draws.mean(0).sum(), (query, key))
    theirs = torch.autograd.grad(exact.exp().sum(), (query, key))
    for a, b in zip(mine, theirs, strict=True):
        assert_close(a, b, rtol=0, atol=0.06 * float(b.abs().max()))


def test_cluster_sampled_tends_to_the_exact_value():
    query, key = unit(table(N, D, 0)).detach(), unit(table(M, D, 1)).detach()
    exact = AllKeys()(query, Table(key), POSITIVES, temperature=T)

    def off(count):
        made = ClusterSampled(fixed(ids()), count, rng=torch.Generator().manual_seed(1))
        return torch.stack([made(query, Table(key), POSITIVES, temperature=T) - exact for _ in range(50)]).abs().mean()

    small, many = off(2), off(500)
    assert many < small / 5


def test_state_clusters_by_kmeans_and_keeps_it():
    g = torch.Generator().manual_seed(5)
    truth = torch.arange(90) % 3
    key = torch.eye(4)[truth] + 0.01 * torch.randn(90, 4, generator=g)
    state = ClusterState({"user": 90, "item": 4}, 3, every=2)
    assert state.counts == {"user": 3, "item": 3}
    state.start_epoch(None, 1, g)
    found = state.of("user", Table(key), True, g)
    assert len({(int(a), int(b)) for a, b in zip(truth, found.ids, strict=True)}) == 3
    other = torch.eye(4)[(truth + torch.arange(90) // 45) % 3]
    state.start_epoch(None, 2, g)  # not due
    assert torch.equal(state.of("user", Table(other), True, g).ids, found.ids)
    kept = ClusterState({"user": 90, "item": 4}, 3)
    kept.load_state_dict(state.state_dict())
    assert torch.equal(kept.user_clusters, found.ids)
    state.start_epoch(None, 3, g)
    again = state.of("user", Table(other), True, g)
    assert not torch.equal(again.ids, kept.user_clusters)


def test_state_samples_many_keys():
    g = torch.Generator().manual_seed(6)
    truth = torch.randint(2, (3000,), generator=g)
    key = torch.eye(2)[truth] + 0.01 * torch.randn(3000, 2, generator=g)
    found = ClusterState({"node": 3000}, 2).of("node", Table(key), False, g).ids
    assert len({(int(a), int(b)) for a, b in zip(truth, found, strict=True)}) == 2


def test_the_default_is_the_square_root():
    assert ClusterState({"a": 100, "b": 101, "c": 1}).counts == {"a": 10, "b": 11, "c": 1}


def test_gap_is_measured_once_an_epoch_and_warned_of(caplog):
    g = torch.Generator().manual_seed(7)
    query, key = unit(torch.randn(600, 8, generator=g)), unit(torch.randn(900, 8, generator=g))
    positives = torch.arange(600)
    made = Clusters(fixed(torch.zeros(900, dtype=torch.int64)), own_cluster="approx")
    made.start_epoch(None, 1, g)
    banned = torch.zeros(600, 900)
    banned[:, :5] = 1
    given = {"temperature": 0.1, "exclude": csr(banned)}
    lse = made(query, Table(key), positives, kind="node", **given)
    rows = torch.arange(0, 600, 3)
    off = (lse - AllKeys()(query, Table(key), positives, **given))[rows].double()
    assert made.gaps["node"].mean == pytest.approx(float(off.mean()), abs=1e-5)
    assert made.gaps["node"].p95 == pytest.approx(float(off.abs().quantile(0.95)), abs=1e-5)
    assert "nats from the exact one" in caplog.text
    before = made.gaps["node"]
    assert isinstance(before, Gap)
    assert isinstance(made, Approximate)
    made(query, Table(key), positives, temperature=5.0)
    assert made.gaps["node"] is before
    caplog.clear()
    made.start_epoch(None, 2, g)
    made(query, Table(key), positives, temperature=5.0)
    assert made.gaps["node"] is not before
    assert abs(made.gaps["node"].mean) < 0.2
    assert not caplog.text


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Clusters(fixed(ids()), order=3), "order must be one of 1, 2, 2t"),
        (lambda: Clusters(fixed(ids()), own_cluster="near"), "own_cluster must be one of"),
        (lambda: Clusters(fixed(ids()), gradient="half"), "gradient must be one of"),
        (lambda: Clusters(fixed(ids()), probe=-1), "probe must be 0 or more"),
        (lambda: ClusterSampled(fixed(ids()), 0), "count must be 1 or more"),
        (lambda: ClusterState({"node": 5}, 0), "num_clusters must be 1 or more"),
        (lambda: ClusterState({"node": 5}, every=0), "every must be 1 or more"),
        (lambda: ClusterState({"node": 5}, given={"node": torch.zeros(4, dtype=torch.int64)}), "of 4 keys were given"),
        (lambda: ClusterState({"node": 2}, given={"node": torch.tensor([-1, 0])}), "numbered from 0"),
        (lambda: Partition.soft(torch.tensor([[0.5, 0.4], [1.0, 0.0]])), "sum to 1"),
        (lambda: Clusters(fixed(torch.ones(M, 1)))(table(N, D, 0), Table(table(M, D, 1)), POSITIVES, temperature=T), "own_cluster must be approx"),
        (lambda: Clusters(fixed(ids()))(table(N, D, 0), Table(table(M, D, 1)), POSITIVES, temperature=T, kind="user"), "no clusters of kind 'user'"),
        (lambda: Clusters(fixed(ids()))(table(N, D, 0), Table(table(M + 1, D, 1)), POSITIVES, temperature=T), "there are 24"),
    ],
)  # fmt: skip
def test_bad_input(make, told):
    with pytest.raises(ValueError, match=told):
        make()


def test_kmeans_without_a_stream_says_so():
    with pytest.raises(RuntimeError, match="give rng"):
        Clusters(ClusterState({"node": M}))(table(N, D, 0), Table(table(M, D, 1)), POSITIVES, temperature=T)


def test_blocks_that_are_not_stored_are_computed_again(monkeypatch):
    monkeypatch.setattr(cluster_sums, "_FEW", 0)
    query, key = table(N, D, 0), table(M, D, 1)

    def grads():
        got = Clusters(fixed(ids()))(query, Table(key), POSITIVES, temperature=T, exclude=csr(excluded()))
        return torch.autograd.grad(torch.where(got == -torch.inf, 0.0, got).sum(), (query, key))

    stored = grads()
    monkeypatch.setattr(cluster_sums, "_STORED", 0)
    for a, b in zip(stored, grads(), strict=True):
        assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_functional_form_takes_any_pairs():
    query, key, assigned = table(N, D, 0), table(M, D, 1), ids()
    exact, dropped = (torch.tensor([0, 4]), torch.tensor([3, 1])), (torch.tensor([2]), torch.tensor([0]))
    got = cluster_log_sum_exp(query, key, Partition(assigned, K), T, exact=exact, dropped=dropped)
    hard = torch.eye(K, dtype=torch.float64)[assigned]
    expected = slow(
        query,
        key,
        hard,
        torch.ones(M, dtype=torch.float64),
        order=1,
        exact={(0, 3), (4, 1)},
        dropped={(2, 0)},
        banned=torch.zeros(N, M),
    )
    agree(got, expected, (query, key))


@pytest.mark.parametrize("order", [1, 2, "2t"])
def test_a_stored_zero_is_no_share(order):
    """An excluded key with one once took the cluster's other keys along."""
    shares = torch.sparse_csr_tensor(torch.tensor([0, 2, 3]), torch.tensor([0, 1, 1]), torch.tensor([1.0, 0.0, 1.0]), size=(2, 2))
    query, key, gone = table(1, D, 0), table(2, D, 1), (torch.tensor([0]), torch.tensor([0]))
    found = cluster_log_sum_exp(query, key, Partition.soft(shares), T, order=order, exclude=gone)
    assert_close(found, query @ key[1] / T)


@pytest.mark.parametrize("order", [1, 2, "2t"])
@pytest.mark.parametrize("soft", [False, True])
def test_key_weights_of_another_type(order, soft):
    query, key = table(N, D, 0).float(), table(M, D, 1).float()
    shares = torch.rand(M, K, generator=torch.Generator().manual_seed(0))
    partition = Partition.soft(shares / shares.sum(1, keepdim=True)) if soft else Partition(ids(), K)
    found = [
        cluster_log_sum_exp(query, key, partition, T, order=order, key_weights=weights)
        for weights in (key_weights(), key_weights().float())
    ]
    assert_close(*found)


def test_an_own_cluster_goes_by_tiles(monkeypatch):
    query, key, own = table(N, D, 0), table(M, D, 1), torch.zeros(N, dtype=torch.int64)
    monkeypatch.setattr(cluster_sums, "_FEW", 0)
    blocks, largest = cluster_sums._block, []

    def watched(*args):
        made = blocks(*args)
        largest.append(made[0].numel())
        return made

    monkeypatch.setattr(cluster_sums, "_block", watched)
    partition, exact = Partition(torch.zeros(M, dtype=torch.int64), 1), (torch.arange(N), own)
    found = cluster_log_sum_exp(query, key, partition, T, exact=exact, tile_entries=2 * M)
    agree(found, (query @ key.T / T).logsumexp(1), (query, key))
    assert max(largest) == 2 * M


def test_partitions_follow_the_state():
    """What was made of the clusters before once stayed beside those that were loaded."""
    states = [ClusterState({"node": M}, 4) for _ in range(2)]
    for seed, state in enumerate(states):
        _ = state.of("node", Table(table(M, D, seed)), False, torch.Generator().manual_seed(seed)).sizes  # made before the load
    states[1].load_state_dict(states[0].state_dict())
    found = states[1].of("node", Table(table(M, D, 0)), False, None)
    assert found.sizes.tolist() == torch.bincount(states[0].node_clusters, minlength=4).tolist()
    before = states[1]._partitions["node"]
    states[1].to(torch.float64)
    assert states[1].of("node", Table(table(M, D, 0)), False, None) is not before


def test_clusters_go_on_from_where_they_were():
    key, state = torch.randn(90, 4, generator=torch.Generator().manual_seed(1)), ClusterState({"user": 90}, 9)
    found = []
    for epoch, seed in ((1, 0), (2, 5)):
        state.start_epoch(None, epoch, torch.Generator())
        found.append(state.of("user", Table(key), False, torch.Generator().manual_seed(seed)).ids.clone())
    assert (found[0] == found[1]).double().mean() > 0.8  # by other seeds: one in ten


def test_a_probe_brings_no_dropped_cluster_back():
    query, key, assigned = table(N, D, 0), table(M, D, 1), ids()
    own = {(i, int(assigned[p])) for i, p in enumerate(POSITIVES)}
    rest = {(i, c) for i in range(N) for c in range(K)} - own
    got = Clusters(fixed(assigned), own_cluster="drop", probe=K)(query, Table(key), POSITIVES, temperature=T)
    hard, ones = torch.eye(K, dtype=torch.float64)[assigned], torch.ones(M, dtype=torch.float64)
    agree(got, slow(query, key, hard, ones, order=1, exact=rest, dropped=own, banned=torch.zeros(N, M)), (query, key))


def test_categories_with_large_ids():
    given = torch.where(ids() == 3, 2_000_000_000, ids())
    assert fixed(given).of("node", Table(table(M, D, 1)), False, None).count == len(ids().unique())
    with pytest.raises(ValueError, match="clusters were given for kind 'items', but there are keys of user, item"):
        ClusterState({"user": 5, "item": 6}, given={"items": torch.arange(6)})
