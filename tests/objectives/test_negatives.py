"""Log-sum-exp over negatives: against dense float64, by gradcheck, at extremes, and how much is held at a time."""

import pytest
import torch
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from graphcl.objectives import AllKeys, InBatch
from tests.objectives.dense import Table, csr, table

POSITIVES = torch.tensor([3, 1, 7, 8, 0, 5])
TILES = [1, 6, 13, 18, 10**6]  # entries: a key at a time, one, two, three (a remainder), all


def excluded() -> torch.Tensor:
    banned = torch.zeros(6, 10)
    banned[0, 0] = banned[0, 3] = banned[2, 9] = banned[5, 4] = banned[5, 5] = 1
    return banned


def dense_lse(query, key, temperature, bias=None, among=None):
    logits = query @ key.T / temperature
    if bias is not None:
        logits = logits + bias
    if among is not None:
        logits = logits.masked_fill(~among, -torch.inf)
    return torch.logsumexp(logits, 1)


def agree(got, expected, inputs, upstream):
    assert_close(got, expected, rtol=1e-12, atol=1e-12)
    for mine, theirs in zip(
        torch.autograd.grad(got, inputs, upstream), torch.autograd.grad(expected, inputs, upstream), strict=True
    ):
        assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("options", ["plain", "weights", "exclude", "both"])
def test_all_keys_equals_dense(tile, options):
    query, key, upstream = table(6, 4, 0), table(10, 4, 1), table(6, 1, 2)[:, 0].detach()
    weights = torch.rand(10, generator=torch.Generator().manual_seed(3), dtype=torch.float64) + 0.1
    weights = weights if options in ("weights", "both") else None
    banned = excluded() if options in ("exclude", "both") else None
    got = AllKeys(tile)(
        query, Table(key), POSITIVES, temperature=0.3,
        key_weights=weights, exclude=None if banned is None else csr(banned),
    )  # fmt: skip
    expected = dense_lse(
        query, key, 0.3, None if weights is None else weights.log(), None if banned is None else banned == 0
    )  # fmt: skip
    agree(got, expected, (query, key), upstream)


@pytest.mark.parametrize("normalise", [False, True])
def test_normalise_is_of_the_keys_alone(normalise):
    """The query arrives as it is to be used; unit keys are made here, so that AllKeys makes them once."""
    query, key = table(6, 4, 4), table(10, 4, 5)
    unit = key / key.norm(dim=1, keepdim=True) if normalise else key
    for negatives, among in ((AllKeys(20), torch.arange(10)), (InBatch(), POSITIVES)):
        got = negatives(query, Table(key), POSITIVES, temperature=0.5, normalise=normalise)
        assert_close(got, dense_lse(query, unit[among], 0.5), rtol=1e-12, atol=0)


@pytest.mark.parametrize("tile", [1, 13, 2**20])
@pytest.mark.parametrize("positives", [POSITIVES, torch.tensor([3, 1, 3, 8, 3, 1])], ids=["once each", "repeats"])
def test_in_batch_equals_dense(tile, positives):
    query, key, upstream = table(6, 4, 6), table(10, 4, 7), table(6, 1, 8)[:, 0].detach()
    weights = torch.rand(10, generator=torch.Generator().manual_seed(9), dtype=torch.float64) + 0.1
    banned = excluded()
    among = torch.zeros(6, 6, dtype=torch.bool)
    for i in range(6):
        for j in range(6):
            own_again = i != j and positives[i] == positives[j]
            among[i, j] = not own_again and banned[i, positives[j]] == 0
    got = InBatch(tile)(query, Table(key), positives, temperature=0.3, key_weights=weights, exclude=csr(banned))
    expected = dense_lse(query, key[positives], 0.3, weights[positives].log(), among)
    agree(got, expected, (query, key), upstream)


def test_in_batch_of_several_positives_takes_each_key_once():
    query, key = table(3, 4, 10), table(6, 4, 11)
    positives = torch.tensor([[0, 1.0, 0, 0, 1, 0], [0, 1, 0, 0, 0, 0], [0, 0, 0, 2, 1, 0]])
    got = InBatch()(query, Table(key), csr(positives), temperature=0.3)
    assert_close(got, dense_lse(query, key[[1, 3, 4]], 0.3), rtol=1e-12, atol=0)


@pytest.mark.parametrize("negatives", [InBatch(), InBatch(1), AllKeys(13)], ids=["batch", "batch tiled", "all tiled"])
def test_gradcheck(negatives):
    query, key = table(6, 3, 12), table(10, 3, 13)
    weights = torch.rand(10, generator=torch.Generator().manual_seed(14), dtype=torch.float64) + 0.1

    def lse(query, key):
        return negatives(query, Table(key), POSITIVES, temperature=0.7, key_weights=weights, exclude=csr(excluded()))

    assert torch.autograd.gradcheck(lse, (query, key))


@pytest.mark.parametrize("negatives", [InBatch(), AllKeys()], ids=["batch", "all"])
def test_second_derivatives_are_refused(negatives):
    """The backward keeps no graph of its own, and would give a wrong answer silently."""
    query, key = table(6, 3, 15), table(10, 3, 16)
    lse = negatives(query, Table(key), POSITIVES, temperature=0.7).square().sum()
    (grad,) = torch.autograd.grad(lse, query, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("negatives", [InBatch(), AllKeys(7 * 5)], ids=["batch", "all"])
@pytest.mark.parametrize(("length", "temperature"), [(10.0, 0.1), (1.0, 1e-3), (10.0, 1e-3)])
def test_finite_where_exponentials_overflow(negatives, length, temperature):
    """Logits of 1,000 to 100,000 in float32; ``log(sum(exp))`` is infinite from 89 on (a known NaN of LightGCL's release)."""
    query, key = (t.detach() for t in (table(7, 4, 17), table(9, 4, 18)))
    query, key = (length * t / t.norm(dim=1, keepdim=True) for t in (query, key))
    positives = torch.tensor([3, 1, 7, 8, 0, 5, 2])
    among = positives if isinstance(negatives, InBatch) else torch.arange(9)
    exact = dense_lse(query, key[among], temperature)
    query, key = query.float().requires_grad_(), key.float().requires_grad_()
    got = negatives(query, Table(key), positives, temperature=temperature)
    assert got.dtype == torch.float32
    assert_close(got.double(), exact, rtol=1e-5, atol=1e-3)
    for grad in torch.autograd.grad(got.sum(), (query, key)):
        assert grad.isfinite().all()


@pytest.mark.parametrize("negatives", [InBatch(), InBatch(1), AllKeys(13)], ids=["batch", "batch tiled", "all tiled"])
def test_every_key_excluded(negatives):
    """lse is -inf, log 0, and no gradient comes from that anchor; the others' are what they were."""
    query, key = table(6, 4, 19), table(10, 4, 20)
    banned = torch.zeros(6, 10)
    banned[1] = 1
    lse = negatives(query, Table(key), POSITIVES, temperature=0.3, exclude=csr(banned))
    assert lse[1] == -torch.inf
    others = torch.tensor([0, 2, 3, 4, 5])
    among = torch.arange(10) if isinstance(negatives, AllKeys) else POSITIVES
    expected = dense_lse(query[others], key[among], 0.3)
    assert_close(lse[others], expected, rtol=1e-12, atol=0)
    grads = torch.autograd.grad(lse, (query, key), torch.ones_like(lse))
    slow = torch.autograd.grad(expected.sum(), (query, key))
    assert_close(grads, slow, rtol=1e-10, atol=1e-12)


def test_a_key_of_weight_zero_is_left_out():
    query, key = table(6, 4, 21), table(10, 4, 22)
    weights = torch.ones(10, dtype=torch.float64)
    weights[[2, 9]] = 0
    got = AllKeys(13)(query, Table(key), POSITIVES, temperature=0.3, key_weights=weights)
    expected = dense_lse(query, key[[0, 1, 3, 4, 5, 6, 7, 8]], 0.3)
    agree(got, expected, (query, key), torch.ones(6, dtype=torch.float64))


class Largest(TorchDispatchMode):
    """The most entries of any tensor that an operation returned; views count as what they show."""

    entries = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, torch.Tensor):
                self.entries = max(self.entries, leaf.numel())
        return made


@pytest.mark.parametrize("normalise", [False, True])
def test_all_keys_holds_a_tile_at_a_time(normalise):
    """50 anchors x 20,000 keys are a million logits; no tensor of forward or backward has more entries than the keys have."""
    query = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    key = torch.randn(20_000, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    with Largest() as seen:
        lse = AllKeys(50 * 1000)(query, Table(key), torch.arange(50), temperature=0.2, normalise=normalise)
        lse.sum().backward()
    assert seen.entries == key.numel()
    with Largest() as seen:
        dense_lse(query, key, 0.2)
    assert seen.entries == 50 * 20_000  # the counter sees what a dense version holds
