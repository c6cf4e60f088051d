"""BSL against loops in float64: the released form, the paper's, and where they meet."""

import pytest
import torch
from torch.testing import assert_close

from graphcl.contracts import Pair
from graphcl.objectives import BSL, AllKeys, InBatch, InfoNCE, Sampled
from tests.objectives.dense import Table, agree, csr, similarity, table

SEVERAL = torch.tensor(
    [
        [1.0, 0, 0, 2, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 0],  # an anchor without a positive
        [0, 0.5, 0, 0, 0, 0, 0],
        [0, 0, 0, 1, 1, 0, 3],
    ],
    dtype=torch.float64,
)
ONE = torch.tensor([4, 0, 4, 2])
ONE_HOT = torch.nn.functional.one_hot(ONE, 7).double()


def slow(query, key, positives, among, near, far, form, weights=(1, 1, 1, 1)):
    """``among``: keys that are compared with. ``form`` combines log E exp(s / near) over positives and log sum exp(s / far) over negatives."""
    losses, total = [], 0.0
    for i in range(len(query)):
        own = [j for j in range(len(key)) if positives[i, j] > 0]
        others = [j for j in among if j not in own]
        if not own:
            continue
        share = [positives[i, j].item() for j in own]
        mean = sum(p * (similarity(query[i], key[j], True) / near).exp() for p, j in zip(share, own, strict=True)) / sum(share)
        rest = sum((similarity(query[i], key[j], True) / far).exp() for j in others)
        losses.append(weights[i] * form(mean.log(), rest.log()))
        total += weights[i]
    return sum(losses) / total


@pytest.mark.parametrize("several", [True, False])
@pytest.mark.parametrize("negatives", [InBatch(20), AllKeys(20)], ids=["batch", "all"])
@pytest.mark.parametrize("weights", [None, torch.tensor([3, 5, 1, 2])], ids=["even", "weighted"])
def test_released_form(several, negatives, weights):
    """One positive each: the key that two anchors share is a negative of neither, and of the others twice."""
    query, key, dense = table(4, 4, 0), table(7, 4, 1), SEVERAL if several else ONE_HOT
    batch = (dense > 0).any(0).nonzero().flatten().tolist() if several else ONE.tolist()
    among = list(range(7)) if isinstance(negatives, AllKeys) else batch
    expected = slow(
        query, key, dense, among, 0.2, 0.2, lambda p, n: -p + 1.3 * n, (1, 1, 1, 1) if weights is None else weights.tolist()
    )
    pair = Pair(query, Table(key), csr(dense) if several else ONE, weights=weights)
    agree(BSL(0.2, power=1.3, negatives=negatives), pair, expected, query, key)


@pytest.mark.parametrize("several", [True, False])
def test_the_papers_form_is_t1_times_ours(several):
    query, key, dense = table(4, 4, 2), table(7, 4, 3), SEVERAL if several else ONE_HOT
    paper = slow(query, key, dense, range(7), 0.2, 0.35, lambda p, n: -0.2 * p + 0.35 * n)
    ours = BSL(0.2, negative_temperature=0.35, negatives=AllKeys())
    agree(ours, Pair(query, Table(key), csr(dense) if several else ONE), paper / 0.2, query, key)


def test_without_bilateral_settings_it_is_decoupled_infonce():
    query, key = table(4, 4, 4), table(7, 4, 5)
    pair = Pair(query, Table(key), ONE)
    assert_close(BSL(0.2)(pair), InfoNCE(0.2, positive_in_denominator=False)(pair))
    assert BSL(0.2).reads_all is False
    assert BSL(0.2, negatives=AllKeys()).reads_all is True


def test_at_a_cold_temperature_a_noisy_positive_is_let_go():
    """Of two positives the near one takes the whole gradient, which a mean of logs would share."""
    query = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    key = torch.tensor([[0.9, 0.5], [-0.9, 0.5], [0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    pair = Pair(query, Table(key), csr(torch.tensor([[1.0, 1.0, 0.0]], dtype=torch.float64)))
    (grad,) = torch.autograd.grad(BSL(0.05, negatives=AllKeys())(pair), key)
    assert grad[0].norm() > 1
    assert grad[1].norm() < 1e-10


@pytest.mark.parametrize("setting", ["temperature", "power", "negative_temperature"])
def test_bad_settings(setting):
    with pytest.raises(ValueError, match=f"{setting} must be above 0, got 0"):
        BSL(**{"temperature": 0.1, setting: 0})


def test_anchors_without_anything_to_compare_with():
    query, key = table(2, 4, 6), table(3, 4, 7)
    loss = BSL(0.1)(Pair(query, Table(key), torch.tensor([1, 1])))
    assert loss.item() == 0
    assert all((g == 0).all() for g in torch.autograd.grad(loss, (query, key)))


def test_negatives_are_told_of_which_kind_the_keys_are():
    """Else those that know kinds would be asked for another: here popularity would not be read."""
    query, key = table(4, 4, 8), table(7, 4, 9)
    popularity = {"item": torch.nn.functional.one_hot(torch.tensor(3), 7).float()}
    objective = BSL(0.2, negatives=Sampled(8, popularity=popularity, log_q=False, rng=torch.Generator().manual_seed(0)))
    got = objective(Pair(query, Table(key), torch.tensor([4, 0, 4, 2]), kind="item"))
    unit = torch.nn.functional.normalize
    cosines = (unit(query) @ unit(key).T / 0.2).detach()
    expected = (cosines[:, 3] + torch.tensor(8.0).log() - cosines[torch.arange(4), [4, 0, 4, 2]]).mean()
    assert_close(got.detach(), expected)


def test_a_temperature_cannot_be_learned():
    """Half of its gradient would be missing."""
    with pytest.raises(ValueError, match="temperature must be a number, not a tensor"):
        BSL(torch.tensor(0.2, requires_grad=True))


def test_a_positive_of_negative_weight():
    positives = torch.sparse_csr_tensor(
        torch.tensor([0, 2, 3]), torch.tensor([0, 1, 2]), torch.tensor([1.0, -1.0, 1.0]), size=(2, 4)
    )
    with pytest.raises(ValueError, match="weights of positives must be 0 or more, got -1"):
        BSL(0.1)(Pair(table(2, 3, 0), Table(table(4, 3, 1)), positives))
