"""InfoNCE against a loop over anchors in float64, values and gradients."""

import math
from typing import get_args

import pytest
import torch
from torch.testing import assert_close

from graphcl.contracts import Pair
from graphcl.objectives import AllKeys, Clusters, InBatch, InfoNCE, Sampled
from graphcl.objectives.cluster_state import ClusterState
from graphcl.objectives.clusters import Own
from tests.objectives.dense import Table, csr, infonce, reduced, table

POSITIVES = torch.tensor([4, 0, 6, 2, 5])  # one key of seven for each of five anchors
ONE_HOT = torch.nn.functional.one_hot(POSITIVES, 7).double()
IN_BATCH = ONE_HOT.any(0).expand(5, 7)
ALL = torch.ones(5, 7, dtype=torch.bool)
SEVERAL = torch.tensor(
    [
        [1.0, 0, 0, 2, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],  # an anchor without a positive
        [0, 0.5, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 1, 0, 3],
        [0, 0, 0, 0, 0, 0, 1],
    ],
    dtype=torch.float64,
)


def agree(objective, pair: Pair, expected, query, key, **options) -> None:
    got = objective(pair, **options)
    assert_close(got, expected, rtol=1e-12, atol=1e-12)
    grads, slow = (torch.autograd.grad(loss, (query, key), retain_graph=True) for loss in (got, expected))
    for mine, theirs in zip(grads, slow, strict=True):
        assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
@pytest.mark.parametrize(("negatives", "among"), [(InBatch(), IN_BATCH), (AllKeys(8), ALL)], ids=["batch", "all"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_one_positive_each(similarity, negatives, among, reduction):
    query, key = table(5, 4, 0), table(7, 4, 1)
    terms = infonce(query, key, ONE_HOT, among, temperature=0.3, cosine=similarity == "cosine")
    objective = InfoNCE(0.3, similarity, negatives, reduction=reduction)
    agree(objective, Pair(query, Table(key), POSITIVES), reduced(terms, reduction=reduction), query, key)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_weights_count_as_repeats(reduction):
    """An anchor of weight 3 is the same anchor written three times over; its key stays one key."""
    query, key = table(5, 4, 2), table(7, 4, 3)
    repeats = torch.tensor([3, 1, 0, 2, 1])
    objective = InfoNCE(0.3, reduction=reduction)
    weighted = objective(Pair(query, Table(key), POSITIVES, weights=repeats))
    terms = infonce(query, key, ONE_HOT, IN_BATCH, temperature=0.3)
    repeated = [term for term, times in zip(terms, repeats.tolist(), strict=True) for _ in range(times)]
    assert_close(weighted, reduced(repeated, reduction=reduction), rtol=1e-12, atol=0)


def test_clamped_positive_has_no_gradient_beyond():
    """Dot products of 10 / .5 = 20 > 5: only the denominator pulls at that anchor. The other, at 2, keeps its gradient."""
    query = torch.tensor([[10.0, 0.0], [0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    key = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    pair = Pair(query, Table(key), torch.tensor([0, 1]))
    objective = InfoNCE(0.5, "dot", AllKeys(), clamp=5.0)
    terms = infonce(query, key, torch.eye(2), torch.ones(2, 2, dtype=torch.bool), temperature=0.5, cosine=False, clamp=5.0)
    agree(objective, pair, reduced(terms), query, key)
    # By hand: anchor 0 is at 20 for its own key, 0 for the other, so its row gains 1/t * softmax * key, halved by the mean.
    (grad,) = torch.autograd.grad(objective(pair), query)
    share = math.exp(20) / (math.exp(20) + 1)
    assert_close(grad[0], torch.tensor([2 * share / 2, 2 * (1 - share) / 2], dtype=torch.float64))
    (without,) = torch.autograd.grad(InfoNCE(0.5, "dot", AllKeys())(pair), query)
    assert without[0].abs().max() < 1e-6  # unclamped, an anchor that has been learned is left in peace


@pytest.mark.parametrize("several", ["each", "any"])
@pytest.mark.parametrize(
    ("negatives", "among"), [(InBatch(), (SEVERAL > 0).any(0).expand(5, 7)), (AllKeys(10), ALL)], ids=["batch", "all"]
)
def test_several_positives_with_weights(several, negatives, among):
    query, key = table(5, 4, 4), table(7, 4, 5)
    terms = infonce(query, key, SEVERAL, among, temperature=0.4, several=several)
    assert [t is None for t in terms] == [False, True, False, False, False]
    objective = InfoNCE(0.4, negatives=negatives, several=several)
    agree(objective, Pair(query, Table(key), csr(SEVERAL)), reduced(terms), query, key)
    weights = torch.tensor([2.0, 9.0, 1.0, 0.5, 1.0], dtype=torch.float64)
    agree(
        objective, Pair(query, Table(key), csr(SEVERAL), weights=weights), reduced(terms, weights.tolist()), query, key
    )  # fmt: skip


@pytest.mark.parametrize("several", ["each", "any"])
def test_a_stored_positive_of_weight_zero_is_none(several):
    """Counted entries instead of weights: 0 / 0 made the loss NaN."""
    query, key = table(2, 4, 6), table(3, 4, 7)
    stored = torch.sparse_csr_tensor(
        [0, 1, 3], [1, 0, 2], torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64), size=(2, 3), check_invariants=True
    )
    terms = infonce(query, key, stored.to_dense(), torch.ones(2, 3, dtype=torch.bool), temperature=0.4, several=several)
    objective = InfoNCE(0.4, negatives=AllKeys(), several=several)
    agree(objective, Pair(query, Table(key), stored), reduced(terms), query, key)


@pytest.mark.parametrize("anchors", [1, 7, 300])
def test_both_directions_of_heco(anchors):
    """L_mp and L_sc by the dense formula, the same rows of positives in both; its 1e-8 is far below the sums over 300 keys."""
    one, other = table(300, 8, 30), table(300, 8, 31)
    drawn = torch.rand(300, 300, generator=torch.Generator().manual_seed(32)) < 0.01
    pos = (drawn | torch.eye(300).bool()).double()
    similar = (torch.nn.functional.cosine_similarity(one[:, None], other[None], dim=2) / 0.8).exp()
    for query, key, scores in ((one, other, similar), (other, one, similar.T)):
        expected = -((scores * pos).sum(1) / (scores.sum(1) + 1e-8)).log().mean()
        objective = InfoNCE(0.8, "cosine", AllKeys(anchors * 300), several="any")
        got = objective(Pair(query, Table(key), csr(pos)))
        assert_close(got, expected, rtol=1e-9, atol=0)
        grads, slow = (torch.autograd.grad(loss, (query, key), retain_graph=True) for loss in (got, expected))
        for mine, theirs in zip(grads, slow, strict=True):
            assert_close(mine, theirs, rtol=0, atol=1e-9 * float(theirs.abs().max()))


def test_several_at_a_cold_temperature():
    """ "any" adds exponentials of up to 1000."""
    query, key = table(5, 4, 8), table(7, 4, 9)
    objective = InfoNCE(1e-3, negatives=AllKeys(), several="any")
    terms = infonce(query, key, SEVERAL, ALL, temperature=1e-3, several="any")
    agree(objective, Pair(query, Table(key), csr(SEVERAL)), reduced(terms), query, key)


@pytest.mark.parametrize("negatives", [InBatch(), AllKeys(9)], ids=["batch", "all"])
def test_exclusions_and_key_weights(negatives):
    query, key = table(5, 4, 10), table(7, 4, 11)
    banned = torch.zeros(5, 7)
    banned[0, 0] = banned[0, 6] = banned[3, 1] = banned[4, 4] = 1
    weights = torch.tensor([0.5, 1.0, 2.0, 1.0, 0.25, 3.0, 1.0], dtype=torch.float64)
    among = (IN_BATCH if isinstance(negatives, InBatch) else ALL) & (banned == 0)
    terms = infonce(query, key, ONE_HOT, among, temperature=0.3, key_weights=weights)
    pair = Pair(query, Table(key), POSITIVES)
    objective = InfoNCE(0.3, negatives=negatives)
    agree(objective, pair, reduced(terms), query, key, key_weights=weights, exclude=csr(banned))


@pytest.mark.parametrize("negatives", [InBatch(), AllKeys(9)], ids=["batch", "all"])
@pytest.mark.parametrize("banned", [None, torch.eye(5, 7)], ids=["", "more excluded"])
def test_positive_outside_the_denominator(negatives, banned):
    query, key = table(5, 4, 12), table(7, 4, 13)
    among = (IN_BATCH if isinstance(negatives, InBatch) else ALL) & (ONE_HOT == 0)
    if banned is not None:
        among = among & (banned == 0)
    terms = infonce(query, key, ONE_HOT, among, temperature=0.3)
    objective = InfoNCE(0.3, negatives=negatives, positive_in_denominator=False)
    options = {} if banned is None else {"exclude": csr(banned)}
    agree(objective, Pair(query, Table(key), POSITIVES), reduced(terms), query, key, **options)


def test_several_positives_outside_the_denominator():
    query, key = table(5, 4, 14), table(7, 4, 15)
    terms = infonce(query, key, SEVERAL, SEVERAL == 0, temperature=0.3)
    objective = InfoNCE(0.3, negatives=AllKeys(), positive_in_denominator=False)
    agree(objective, Pair(query, Table(key), csr(SEVERAL)), reduced(terms), query, key)


def test_anchor_with_nobody_to_compare_with():
    """One anchor in the batch and its positive not in the denominator: the loss was -inf."""
    query, key = table(1, 4, 16), table(3, 4, 17)
    loss = InfoNCE(0.3, positive_in_denominator=False)(Pair(query, Table(key), torch.tensor([1])))
    assert loss.item() == 0
    for grad in torch.autograd.grad(loss, (query, key)):
        assert_close(grad, torch.zeros_like(grad))


def test_a_key_twice_is_no_negative_of_itself():
    query, key = table(4, 4, 18), table(3, 4, 19)
    positives = torch.tensor([2, 0, 2, 2])
    terms = []
    for i, own in enumerate(positives.tolist()):
        # Other anchors' keys that are another node, as often as they come, and the own key once.
        row = [own] + [j for j in positives.tolist() if j != own]
        logits = torch.stack([torch.cosine_similarity(query[i], key[j], dim=0) / 0.2 for j in row])
        terms.append(torch.logsumexp(logits, 0) - logits[0])
    agree(InfoNCE(0.2), Pair(query, Table(key), positives), torch.stack(terms).mean(), query, key)


@pytest.mark.parametrize("own", [False, True])
def test_shared_keys_with_exclusions_and_key_weights(own):
    query, key = table(9, 4, 30), table(3, 4, 31)
    positives, weights = torch.tensor([2, 0, 2, 2, 1, 0, 0, 2, 2]), torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64)
    excluded = torch.zeros(9, 3)
    excluded[0, 0] = excluded[4, 2] = excluded[7, 0] = excluded[7, 1] = 1
    if own:
        excluded[1, 0] = excluded[6] = 1
    terms = []
    for i, mine in enumerate(positives.tolist()):
        logit = [torch.cosine_similarity(query[i], each, dim=0) / 0.2 for each in key]
        row = [mine] + [j for j in positives.tolist() if j != mine]
        left = [logit[j] + weights[j].log() for j in row if not excluded[i, j]]
        if left:
            terms.append(torch.logsumexp(torch.stack(left), 0) - logit[mine])
    assert len(terms) == 9 - own
    pair = Pair(query, Table(key), positives)
    loss = InfoNCE(0.2)(pair, key_weights=weights, exclude=csr(excluded))
    expected = torch.stack(terms).mean()
    assert_close(loss, expected)
    for got, wanted in zip(*(torch.autograd.grad(each, (query, key)) for each in (loss, expected)), strict=True):
        assert_close(got, wanted)


def test_one_key_of_everybody_is_nobodys_negative():
    query, key = table(5, 4, 32), table(3, 4, 33)
    loss = InfoNCE(0.2)(Pair(query, Table(key), torch.full((5,), 1)))
    assert loss.item() == pytest.approx(0, abs=1e-12)
    for grad in torch.autograd.grad(loss, (query, key)):
        assert_close(grad, torch.zeros_like(grad))


def test_zero_rows_are_finite_and_pull_nowhere():
    """A node without edges has a zero row after one layer. Dividing by max(length, 1e-12) enlarged its gradient 1e12 times."""
    query, key = table(5, 4, 20), table(7, 4, 21)
    with torch.no_grad():
        query[1], key[2], key[4] = 0, 0, 0
    terms = infonce(query, key, ONE_HOT, ALL, temperature=0.3)
    got = InfoNCE(0.3, negatives=AllKeys())(Pair(query, Table(key), POSITIVES))
    assert_close(got, reduced(terms), rtol=1e-12, atol=0)
    of_query, of_key = torch.autograd.grad(got, (query, key))
    assert of_query[1].abs().max() == 0
    assert of_key[[2, 4]].abs().max() == 0
    assert of_query.isfinite().all()
    assert of_key.isfinite().all()


@pytest.mark.parametrize("broken", ["query", "key"])
@pytest.mark.parametrize(
    "negatives",
    [
        InBatch(),
        AllKeys(9),
        Sampled(30, rng=torch.Generator().manual_seed(0)),
        *(Clusters(ClusterState({"node": 7}, given={"node": torch.arange(7) % 3}), own_cluster=own) for own in get_args(Own)),
    ],
    ids=["batch", "all", "sampled", *get_args(Own)],
)
def test_a_diverged_table_is_not_hidden(negatives, broken):
    """Anchors without keys are left out; an anchor whose log-sum-exp is NaN must not be."""
    query, key = table(5, 4, 22), table(7, 4, 23)
    with torch.no_grad():
        {"query": query, "key": key}[broken][0] = torch.nan
    assert InfoNCE(0.3, negatives=negatives)(Pair(query, Table(key), POSITIVES)).isnan()


@pytest.mark.parametrize(
    "wrong", [{"temperature": 0.0}, {"temperature": -1.0}, {"temperature": float("nan")},
              {"temperature": torch.tensor(0.2, requires_grad=True)}, {"similarity": "l2"}, {"clamp": -1.0},
              {"reduction": "none"}, {"several": "all"}],
)  # fmt: skip
def test_refuses(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        InfoNCE(**{"temperature": 0.2, **wrong})


@pytest.mark.parametrize(
    ("positives", "weights", "told"),
    [
        (torch.tensor([2]), None, r"positives must be of shape \(6,\), got \(1,\)"),
        (torch.arange(8), None, r"positives must be of shape \(6,\), got \(8,\)"),
        (csr(torch.ones(6, 9)), None, r"positives must be of shape \(6, 8\), got \(6, 9\)"),
        (torch.arange(6), torch.ones(1), r"weights must be of shape \(6,\), got \(1,\)"),
    ],
)
def test_a_pair_of_the_wrong_shape(positives, weights, told):
    """Kernels read what a column says, and one positive would be everybody's."""
    with pytest.raises(ValueError, match=told):
        Pair(table(6, 4, 0), Table(table(8, 4, 1)), positives, weights=weights)


@pytest.mark.parametrize("given", [{"key_weights": torch.ones(1)}, {"exclude": csr(torch.ones(6, 9))}])
def test_arguments_of_the_wrong_shape(given):
    with pytest.raises(ValueError, match=rf"{next(iter(given))} must be of shape .* got "):
        InfoNCE(0.2)(Pair(table(6, 4, 0), Table(table(8, 4, 1)), torch.arange(6)), **given)


@pytest.mark.parametrize("several", ["each", "any"])
def test_a_positive_of_negative_weight(several):
    weights = torch.ones(6, 8)
    weights[2, 3] = -0.5
    with pytest.raises(ValueError, match=r"weights of positives must be 0 or more, got -0\.5"):
        InfoNCE(0.2, several=several)(Pair(table(6, 4, 0), Table(table(8, 4, 1)), csr(weights)))


def test_shared_positives_without_a_key_that_counts():
    """The gradient was NaN there, beside a loss of 0."""
    query, key = table(3, 4, 0), table(3, 4, 1)
    positives, counts = torch.tensor([0, 0, 1]), torch.tensor([0.0, 0.0, 1.0])
    loss = InfoNCE(0.2)(Pair(query, Table(key), positives), key_weights=counts)
    assert all(torch.isfinite(grad).all() for grad in torch.autograd.grad(loss, (query, key)))


@pytest.mark.parametrize("several", ["each", "any"])
def test_several_positives_are_clamped_on_both_sides(several):
    positives = torch.tensor([[1.0, 0, 2], [0, 1, 0]], dtype=torch.float64)
    query, key = (9 * table(2, 4, 0).detach()).requires_grad_(), table(3, 4, 1)
    terms = infonce(query, key, positives, torch.ones(2, 3).bool(), temperature=0.5, cosine=False, clamp=2.0, several=several)
    objective = InfoNCE(0.5, "dot", AllKeys(), clamp=2.0, several=several)
    agree(objective, Pair(query, Table(key), csr(positives)), reduced(terms), query, key)


def test_one_positive_is_clamped_on_both_sides():
    signs = torch.tensor([9.0, 9, 9, -9, 9], dtype=torch.float64)[:, None]
    query, key = (signs * table(5, 4, 0).detach()).requires_grad_(), table(7, 4, 1)
    logits = (query * key[POSITIVES]).sum(1) / 0.5
    assert [bool((logits < -2).any()), bool((logits > 2).any())] == [True, True]
    terms = infonce(query, key, ONE_HOT, ALL, temperature=0.5, cosine=False, clamp=2.0)
    agree(InfoNCE(0.5, "dot", AllKeys(), clamp=2.0), Pair(query, Table(key), POSITIVES), reduced(terms), query, key)
