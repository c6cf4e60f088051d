"""Ranks against a loop over targets and items in float64."""

import math

import numpy as np
import pytest
import torch

from graphcl import sequence_rank
from graphcl.interactions import Interactions, Vocabulary
from graphcl.sequence import NextItems, Sequences
from graphcl.sequence_rank import evaluate_next, next_ranks

ITEMS = 25


def made(repeats=True, seed=0) -> NextItems:
    """Sixty users, up to three targets each; with repeats some targets stand in their history."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(4, 15, 60)
    drawn = [rng.integers(0, ITEMS, n) if repeats else rng.permutation(ITEMS)[:n] for n in lengths]
    users, items = np.repeat(np.arange(60), lengths).astype(np.int32), np.concatenate(drawn).astype(np.int32)
    log = Sequences.from_interactions(Interactions(users, items, Vocabulary(np.arange(60)), Vocabulary(np.arange(ITEMS))))
    rows = [(u, int(log.pointers[u + 1]) - 1 - back) for u in range(60) for back in range(1 + u % 3)]
    return NextItems(log, *(torch.tensor(column) for column in zip(*rows, strict=True)))


class Sums:
    """Scores depend on the whole row that is handed over, on its order, and tie often."""

    num_items = ITEMS

    def __init__(self, levels=7):
        self.levels, self.calls = levels, []

    def score(self, items, lengths):
        self.calls.append((items, lengths))
        place = torch.arange(items.shape[1]) < lengths[:, None]
        code = (torch.where(place, items + 1, 0) * torch.arange(1, items.shape[1] + 1)).sum(1)
        return ((code[:, None] * 31 + torch.arange(ITEMS) ** 2 * 17) % self.levels).double()


def by_loop(held_out: NextItems, scorer, max_length=None):
    keep, mask = [], []
    for user, place in zip(held_out.users.tolist(), held_out.places.tolist(), strict=True):
        log = held_out.log
        history = log.items[int(log.pointers[user]) : place].tolist()
        target = int(log.items[place])
        given = history if max_length is None else history[-max_length:]
        scores = scorer.score(torch.tensor([given]), torch.tensor([len(given)]))[0].tolist()
        keep.append(1 + sum(scores[i] >= scores[target] for i in range(ITEMS) if i != target))
        others = [i for i in range(ITEMS) if i != target and i not in history]
        mask.append(ITEMS if target in history else 1 + sum(scores[i] >= scores[target] for i in others))
    return keep, mask


@pytest.mark.parametrize("block", [1, 7, None])
@pytest.mark.parametrize("max_length", [None, 3])
def test_ranks(block, max_length):
    held_out = made()
    keep, mask = next_ranks(Sums(), held_out, max_length=max_length, block=block)
    assert (keep.tolist(), mask.tolist()) == by_loop(held_out, Sums(), max_length)
    assert (mask == ITEMS).any()  # some targets cannot be reached
    assert (mask < keep).any()


def test_a_long_history_shortens_its_own_block_only(monkeypatch):
    """Whole histories are padded to the longest of a block, and stand in order of length."""
    monkeypatch.setattr(sequence_rank, "TILE_CPU", 4 * ITEMS)
    users = np.repeat(np.arange(9), [3, 3, 3, 3, 3, 3, 3, 3, 2 * ITEMS + 1]).astype(np.int32)
    items = (np.arange(len(users)) % ITEMS).astype(np.int32)
    log = Sequences.from_interactions(Interactions(users, items, Vocabulary(np.arange(9)), Vocabulary(np.arange(ITEMS))))
    held_out, scorer = NextItems(log, torch.arange(9), log.pointers[1:] - 1), Sums()
    assert next_ranks(scorer, held_out)[0].tolist() == by_loop(held_out, Sums())[0]
    assert [len(items) for items, _ in scorer.calls] == [4, 4, 1]


def test_a_scorer_sees_rows_filled_with_the_number_of_items():
    scorer = Sums()
    next_ranks(scorer, made(), max_length=5, block=10)
    for items, lengths in scorer.calls:
        assert items.shape[1] == int(lengths.max()) <= 5
        assert (items == ITEMS).equal(torch.arange(items.shape[1]) >= lengths[:, None])


def test_what_cannot_be_reached_is_no_hit_in_a_small_catalogue():
    held_out = made()
    report = evaluate_next(Sums(), held_out, ks=(ITEMS, 2 * ITEMS))
    kept, masked = next_ranks(Sums(), held_out, unreachable=7 * ITEMS)
    assert (kept <= ITEMS).all()
    reached = masked < 7 * ITEMS
    assert 0 < reached.mean() < 1
    assert report.keep[f"hr@{ITEMS}"] == report.keep[f"hr@{2 * ITEMS}"] == 1
    each = [reached[held_out.users.numpy() == user].mean() for user in range(60)]
    assert report.mask[f"hr@{ITEMS}"] == report.mask[f"hr@{2 * ITEMS}"] == pytest.approx(np.mean(each), rel=1e-12)


class Constant:
    num_items = ITEMS

    def __init__(self, value):
        self.value = value

    def score(self, items, lengths):
        return torch.full((len(items), ITEMS), self.value)


@pytest.mark.parametrize("value", [0.0, -math.inf, math.inf])
def test_a_constant_scorer_ranks_last(value):
    held_out = made(repeats=False)
    keep, mask = next_ranks(Constant(value), held_out)
    assert (keep == ITEMS).all()
    assert mask.tolist() == (ITEMS - held_out.lengths).tolist()  # the worst place among those left
    assert not any(evaluate_next(Constant(value), held_out).keep.values())


def test_metrics_are_means_over_users_of_means_over_targets():
    held_out = made()
    report = evaluate_next(Sums(), held_out, ks=(3, 10))
    for ranks, means, ending in zip(by_loop(held_out, Sums()), (report.keep, report.mask), ("", "/masked"), strict=True):
        for k in (3, 10):
            for name, value in {
                "hr": lambda r: 1.0, "ndcg": lambda r: 1 / math.log2(r + 1), "mrr": lambda r: 1 / r,
            }.items():  # fmt: skip
                per_user = []
                for user in range(60):
                    mine = [r for r, u in zip(ranks, held_out.users.tolist(), strict=True) if u == user]
                    per_user.append(sum(value(r) for r in mine if r <= k) / len(mine))
                assert report.per_user[f"{name}@{k}{ending}"] == pytest.approx(per_user, rel=1e-12)
                assert means[f"{name}@{k}"] == pytest.approx(sum(per_user) / 60, rel=1e-12)
    assert report.users.tolist() == list(range(60))
    assert set(report.keep) == set(report.mask) == {f"{name}@{k}" for name in ("hr", "ndcg", "mrr") for k in (3, 10)}
    assert report.means("mask") is report.mask
    assert report.means("keep") is report.keep
    assert report.per_user["rank"][0] == by_loop(held_out, Sums())[0][0]


def test_scores_are_not_written():
    scores = torch.rand(1, ITEMS).expand(200, -1)
    before = scores.clone()

    class Shared:
        num_items = ITEMS

        def score(self, items, lengths):
            return scores[: len(items)]

    next_ranks(Shared(), made())
    assert scores.equal(before)


def test_what_is_refused():
    with pytest.raises(ValueError, match="a score is NaN"):
        next_ranks(Constant(math.nan), made())

    class Narrow(Constant):
        def score(self, items, lengths):
            return torch.zeros(len(items), ITEMS - 1)

    with pytest.raises(ValueError, match=r"the scorer gave \(11, 24\) for 11 histories and 25 items"):
        next_ranks(Narrow(0), made(), block=11)


@pytest.mark.gpu
def test_ranks_on_a_device():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")

    class Moved(Sums):
        def score(self, items, lengths):
            assert items.is_cuda
            return super().score(items.cpu(), lengths.cpu()).cuda()

    keep, mask = next_ranks(Moved(), made(), device="cuda")
    assert (keep.tolist(), mask.tolist()) == by_loop(made(), Sums())
