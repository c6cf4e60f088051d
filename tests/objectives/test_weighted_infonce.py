"""Weighted InfoNCE against the dense formula in float64, in which gamma [n, m] and the sums q + k [n, m, d] are written out."""

import math

import pytest
import torch
from torch.testing import assert_close

from graphcl.contracts import Pair
from graphcl.objectives import AllKeys, InfoNCE, WeightedInfoNCE
from graphcl.testing import undisturbed
from tests.objectives.dense import Table, csr, table

N, WIDTH, UNITS = 300, 6, 5
TILES = [1, 7, N, 2**20]  # anchors of a tile


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def positives(m: int = N) -> torch.Tensor:
    return torch.randint(m, (m,), generator=generator(1))  # some keys twice, some never


def clusters(m: int = N) -> torch.Tensor:
    """Two clusterings; of the ids 0..39 and 3..9 some are nobody's."""
    return torch.stack(
        [torch.randint(0, 40, (m,), generator=generator(2)), torch.randint(3, 10, (m,), generator=generator(3))], 1
    )


def learned(temperature: float = 0.3, **options) -> WeightedInfoNCE:
    settings = {"dim": WIDTH, "hidden": UNITS, "rng": generator(4), **options}
    return WeightedInfoNCE(temperature, "learned", **settings).double()


def of_clusters(own: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    gamma = torch.zeros(len(own), len(ids), dtype=torch.float64)
    for i, p in enumerate(own.tolist()):
        for k in range(ids.shape[1]):
            gamma[i] += (ids[:, k] != ids[p, k]).double()
    return gamma


def of_units(objective: WeightedInfoNCE, query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    w1, b1, w2, b2 = objective.parameters()
    hidden = ((query[:, None, :] + keys[None, :, :]) @ w1.T + b1).tanh()
    gamma = ((hidden @ w2.T)[..., 0] + b2).sigmoid()
    return gamma / gamma.mean(1, keepdim=True) if objective.mode == "normalised" else gamma


def dense(query, keys, own, gamma, temperature) -> torch.Tensor:
    """The mean over anchors; logits are shifted by the largest that has a weight."""
    logits = query @ keys.T / temperature
    top = logits.masked_fill(gamma == 0, -torch.inf).amax(1, keepdim=True).detach()
    denominator = (torch.where(gamma == 0, 0.0, gamma * (logits - top).exp())).sum(1).log() + top[:, 0]
    return (denominator - logits[torch.arange(len(own)), own]).mean()


def agree(got, expected, inputs, *, rtol=1e-10) -> None:
    """Value and gradients, each against the largest entry of its table."""
    assert_close(got.double(), expected.double(), rtol=rtol, atol=rtol)
    mine, theirs = torch.autograd.grad(got, inputs[0]), torch.autograd.grad(expected, inputs[-1])
    for a, b in zip(mine, theirs, strict=True):
        assert_close(a.double(), b.double(), rtol=0, atol=rtol * float(b.abs().max()))


@pytest.mark.parametrize("anchors", TILES)
def test_clusters(anchors):
    query, keys, own, ids = table(N, WIDTH, 0), table(N, WIDTH, 1), positives(), clusters()
    gamma = of_clusters(own, ids)
    assert set(gamma.unique().tolist()) == {0, 1, 2}
    got = WeightedInfoNCE(0.3, "cluster", tile_entries=anchors * N)(Pair(query, Table(keys), own), ids)
    agree(got, dense(query, keys, own, gamma, 0.3), [(query, keys)])


@pytest.mark.parametrize("mode", ["joint", "normalised"])
@pytest.mark.parametrize("anchors", TILES)
def test_learned(anchors, mode):
    query, keys, own = table(N, WIDTH, 0), table(N, WIDTH, 1), positives()
    objective = learned(mode=mode, tile_entries=anchors * N)
    expected = dense(query, keys, own, of_units(objective, query, keys), 0.3)
    agree(objective(Pair(query, Table(keys), own)), expected, [(query, keys, *objective.parameters())])


def single(*tables: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tuple(t.detach().float().requires_grad_() for t in tables)


@pytest.mark.parametrize("temperature", [0.3, 0.01])
@pytest.mark.parametrize("anchors", TILES)
def test_clusters_in_float32(anchors, temperature):
    """At 0.01 a logit of 100 is known to 4e-6 in float32, and so is a share of the gradient."""
    query, keys, own, ids = table(N, WIDTH, 0, 0.4), table(N, WIDTH, 1, 0.4), positives(), clusters()
    q, k = single(query, keys)
    objective = WeightedInfoNCE(temperature, "cluster", tile_entries=anchors * N)
    expected = dense(query, keys, own, of_clusters(own, ids), temperature)
    agree(objective(Pair(q, Table(k), own), ids), expected, [(q, k), (query, keys)], rtol=1e-5 if temperature > 0.1 else 5e-5)


@pytest.mark.parametrize("temperature", [0.3, 0.01])
@pytest.mark.parametrize("mode", ["joint", "normalised"])
@pytest.mark.parametrize("anchors", TILES)
def test_learned_in_float32(anchors, mode, temperature):
    query, keys, own = table(N, WIDTH, 0, 0.4), table(N, WIDTH, 1, 0.4), positives()
    exact = learned(temperature, mode=mode)
    objective = learned(temperature, mode=mode, tile_entries=anchors * N).float()
    q, k = single(query, keys)
    expected = dense(query, keys, own, of_units(exact, query, keys), temperature)
    agree(
        objective(Pair(q, Table(k), own)), expected,
        [(q, k, *objective.parameters()), (query, keys, *exact.parameters())], rtol=1e-5 if temperature > 0.1 else 5e-5,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keys_of_the_own_cluster_do_not_drown_the_rest(dtype):
    """The own cluster stands at logits of 100, the others at -100: a total less the own part is 0, and shifted by 100 it vanishes."""
    query = torch.tensor([[1.0, 0.0]], dtype=dtype, requires_grad=True)
    keys = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-0.99, 0.1]], dtype=dtype, requires_grad=True)
    ids = torch.tensor([[5, 1], [5, 1], [0, 1], [0, 2]])
    loss = WeightedInfoNCE(0.01, "cluster")(Pair(query, Table(keys), torch.tensor([0])), ids)
    expected = -100 + math.log(math.exp(-100) + 2 * math.exp(-99))
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    (of_keys,) = torch.autograd.grad(loss, keys)
    share = 2 * math.e / (1 + 2 * math.e)  # of the last key
    assert_close(of_keys[:, 0], torch.tensor([-100, 0, 100 * (1 - share), 100 * share], dtype=dtype), rtol=1e-4, atol=0)


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_no_weights_are_infonce_over_all_keys(similarity):
    query, keys = table(5, 4, 0), table(7, 4, 1)
    for own in (torch.tensor([4, 0, 6, 2, 4]), csr(torch.eye(5, 7).double())):
        pair = Pair(query, Table(keys), own)
        expected = InfoNCE(0.3, similarity, AllKeys())(pair)
        agree(WeightedInfoNCE(0.3, similarity=similarity)(pair), expected, [(query, keys)])
    one_apart = torch.arange(7)[:, None]  # each key by itself: gamma is 1 but for the positive
    pair = Pair(query, Table(keys), torch.tensor([4, 0, 6, 2, 4]))
    expected = InfoNCE(0.3, similarity, AllKeys(), positive_in_denominator=False)(pair)
    agree(WeightedInfoNCE(0.3, "cluster", similarity=similarity)(pair, one_apart), expected, [(query, keys)])


def test_cosine_holds_for_the_weights_too():
    query, keys, own = table(20, WIDTH, 0), table(20, WIDTH, 1), positives(20)
    objective = learned(similarity="cosine")
    unit = [t / t.norm(dim=1, keepdim=True) for t in (query, keys)]
    expected = dense(*unit, own, of_units(objective, *unit), 0.3)
    agree(objective(Pair(query, Table(keys), own)), expected, [(query, keys, *objective.parameters())])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_common_scale_of_gamma_moves_no_embedding(dtype):
    """Each clustering twice doubles gamma. A bias lower by 150, where gamma is 1e-80 and no float32, scales it by e^-150."""
    rtol = 1e-5 if dtype == torch.float32 else 1e-10
    query, keys, own, ids = (
        *(table(20, WIDTH, seed).detach().to(dtype).requires_grad_() for seed in (0, 1)),
        positives(20),
        clusters(20),
    )
    pair, objective = Pair(query, Table(keys), own), WeightedInfoNCE(0.3, "cluster")
    once, twice = objective(pair, ids), objective(pair, torch.cat([ids, ids], 1))
    agree(twice, once + math.log(2), [(query, keys)], rtol=rtol)
    rare, rarer = learned().to(dtype), learned().to(dtype)
    with torch.no_grad():
        rare.outer.bias -= 40
        rarer.outer.bias -= 190
    agree(rarer(pair), rare(pair) - 150, [(query, keys)], rtol=rtol)


def test_normalised_weights_do_not_know_their_scale():
    """Raising every gamma gains nothing: the bias of weights that are all small has no gradient."""
    pair, objective = Pair(table(20, WIDTH, 0), Table(table(20, WIDTH, 1)), positives(20)), learned(mode="normalised")
    with torch.no_grad():
        objective.outer.bias.fill_(-40)
    assert torch.autograd.grad(objective(pair), objective.outer.bias)[0].abs() < 1e-12
    objective.mode = "joint"
    assert_close(torch.autograd.grad(objective(pair), objective.outer.bias)[0], torch.ones(1).double())


@pytest.mark.parametrize("kind", ["cluster", "learned"])
def test_counted_anchors(kind):
    query, keys, own, ids = table(20, WIDTH, 0), table(20, WIDTH, 1), positives(20), clusters(20)
    counts = torch.randint(4, (20,), generator=generator(5))
    objective, more = (learned(), ()) if kind == "learned" else (WeightedInfoNCE(0.3, "cluster"), (ids,))
    weighted = objective(Pair(query, Table(keys), own, weights=counts), *more)
    repeated = torch.repeat_interleave(torch.arange(20), counts)
    agree(weighted, objective(Pair(query[repeated], Table(keys), own[repeated]), *more), [(query, keys)])


@pytest.mark.parametrize("ids", [torch.zeros(7, 2), torch.tensor([[3, 8]]).expand(7, 2)])
def test_all_in_one_cluster_is_0_without_gradients(ids):
    query, keys = table(5, 4, 0), table(7, 4, 1)
    loss = WeightedInfoNCE(0.01, "cluster")(Pair(query, Table(keys), torch.arange(5)), ids.long())
    assert loss.item() == 0
    assert all(not gradient.any() for gradient in torch.autograd.grad(loss, (query, keys)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_zero_rows(dtype, similarity):
    """Finite, and a zero anchor's share of the loss is the log of its weights' sum."""
    query, keys = table(4, WIDTH, 0).detach().to(dtype), table(7, WIDTH, 1).detach().to(dtype)
    query[1], keys[2] = 0, 0
    query.requires_grad_()
    keys.requires_grad_()
    ids = torch.tensor([[0], [0], [0], [1], [1], [2], [2]])
    pair = Pair(query, Table(keys), torch.tensor([2, 0, 3, 5]))
    for objective, more in (
        (WeightedInfoNCE(0.01, "cluster", similarity=similarity), (ids,)),
        (learned(0.01, similarity=similarity).to(dtype), ()),
    ):
        loss = objective(pair, *more)
        assert loss.isfinite()
        assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(loss, (query, keys)))
    only = Pair(query[1:2], Table(keys), torch.tensor([0]))
    assert WeightedInfoNCE(0.01, "cluster")(only, ids).item() == pytest.approx(math.log(4), rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_diverged_table_is_not_hidden(dtype):
    query, keys = (table(n, WIDTH, n).detach().to(dtype) for n in (4, 7))
    query[0, 0] = torch.nan
    pair = Pair(query, Table(keys), torch.arange(4))
    assert learned().to(dtype)(pair).isnan()
    for ids in (torch.arange(7)[:, None], torch.zeros(7, 1, dtype=torch.int64)):
        assert WeightedInfoNCE(0.3, "cluster")(pair, ids).isnan()


def test_nothing_of_n_by_m_is_held(monkeypatch):
    """Tables of logits are asked for by ``memory.empty``, of one anchor where a tile is smaller than a row."""
    from graphcl.ops import memory

    asked, empty = [], memory.empty
    monkeypatch.setattr(memory, "empty", lambda rows, width, like: asked.append(rows * width) or empty(rows, width, like))
    query, keys = single(table(N, WIDTH, 0), table(N, WIDTH, 1))
    for entries, most in ((10 * N + 5, 10 * N), (1, N)):
        objective = learned(mode="normalised", tile_entries=entries).float()
        objective(Pair(query, Table(keys), positives())).backward()
        assert max(asked) == most
        asked.clear()


def test_without_gradients_the_value_is_the_same():
    query, keys, own = table(20, WIDTH, 0), table(20, WIDTH, 1), positives(20)
    for objective, more in ((learned(), ()), (WeightedInfoNCE(0.3, "cluster"), (clusters(20),))):
        with torch.no_grad():
            value = objective(Pair(query, Table(keys), own), *more)
        assert torch.equal(value, objective(Pair(query, Table(keys), own), *more).detach())


def test_parameters_are_drawn_from_rng_as_torch_draws_them():
    with undisturbed():
        first, same, other = (learned(rng=generator(seed), hidden=4000) for seed in (0, 0, 1))
    for a, b, c in zip(first.parameters(), same.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
    assert [tuple(p.shape) for p in first.parameters()] == [(4000, WIDTH), (4000,), (1, 4000), (1,)]
    for drawn, inputs in ((first.inner.weight, WIDTH), (first.inner.bias, WIDTH), (first.outer.weight, 4000)):
        assert drawn.abs().max().item() == pytest.approx(inputs**-0.5, rel=0.01)
        assert drawn.abs().max().item() <= inputs**-0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"temperature": float("nan")}, "temperature must be above 0"),
        ({"weights": "clusters"}, "weights must be one of none, cluster, learned, got 'clusters'"),
        ({"similarity": "l2"}, "similarity must be one of dot, cosine, got 'l2'"),
        ({"mode": "adversarial"}, "mode must be one of joint, normalised, got 'adversarial'"),
        ({"mode": "normalised"}, "mode='normalised' is for weights='learned', got weights='none'"),
        ({"weights": "learned", "rng": generator()}, "needs dim"),
        ({"weights": "learned", "dim": 4}, "needs dim, the width of the rows, and rng"),
        ({"weights": "learned", "dim": 0, "rng": generator()}, "dim must be 1 or more, got 0"),
        ({"weights": "learned", "dim": 4, "hidden": 0, "rng": generator()}, "hidden must be 1 or more, got 0"),
        ({"tile_entries": 0}, "tile_entries must be 1 or more, got 0"),
    ],
)
def test_settings_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        WeightedInfoNCE(**{"temperature": 0.3, **options})


@pytest.mark.parametrize(
    ("objective", "assignments", "message"),
    [
        (WeightedInfoNCE(0.3, "cluster"), None, r"weights='cluster' needs assignments, the cluster ids \[m, K\]"),
        (WeightedInfoNCE(0.3), torch.zeros(7, 1).long(), "weights='none' takes no assignments"),
        (learned(), torch.zeros(7, 1).long(), "weights='learned' takes no assignments"),
        (WeightedInfoNCE(0.3, "cluster"), torch.zeros(5, 2).long(), r"a row for each of 7 keys, got torch.int64 of shape \(5, 2\)"),
        (WeightedInfoNCE(0.3, "cluster"), torch.zeros(7).long(), r"got torch.int64 of shape \(7,\)"),
        (WeightedInfoNCE(0.3, "cluster"), torch.zeros(7, 0).long(), r"got torch.int64 of shape \(7, 0\)"),
        (WeightedInfoNCE(0.3, "cluster"), torch.zeros(7, 2), r"must be int64 \[m, K\].* got torch.float32"),
        (WeightedInfoNCE(0.3, "cluster"), torch.arange(-1, 6)[:, None], r"between 0 and 2\*\*31 - 1, got -1 to 5"),
        (WeightedInfoNCE(0.3, "cluster"), torch.arange(7)[:, None] + 2**31, "got 2147483648 to 2147483654"),
        (learned(dim=8), None, f"for rows of width 8, got {WIDTH}"),
    ],
)  # fmt: skip
def test_calls_are_checked(objective, assignments, message):
    pair = Pair(table(5, WIDTH, 0), Table(table(7, WIDTH, 1)), torch.arange(5))
    with pytest.raises(ValueError, match=message):
        objective(pair, assignments)


def test_sparse_positives_are_refused():
    pair = Pair(table(5, WIDTH, 0), Table(table(7, WIDTH, 1)), csr(torch.eye(5, 7)))
    for objective, more in ((learned(), ()), (WeightedInfoNCE(0.3, "cluster"), (clusters(7),))):
        with pytest.raises(ValueError, match="needs one positive a query, got a sparse matrix"):
            objective(pair, *more)
