"""Batches of users: who comes, with which items, how often."""

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy import stats

from graphcl.data.user_batches import UserBatches
from graphcl.interactions import Interactions, Vocabulary

# Five users of seven items: one item, five, six (so one negative at most), none, three of which one comes twice.
HAS = {0: {2}, 1: {0, 1, 3, 5, 6}, 2: {0, 1, 2, 3, 4, 5}, 4: {1, 4, 6}}
USERS, ITEMS = 5, 7


def log(has: dict[int, set[int]] = HAS) -> Interactions:
    pairs = [(u, i) for u, items in has.items() for i in items]
    pairs.append(pairs[-1])
    users, items = np.array(pairs, dtype=np.int32).T
    return Interactions(users, items, Vocabulary(np.arange(USERS)), Vocabulary(np.arange(ITEMS)))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_an_epoch():
    """Each user with items once; as many positives as negatives, all different, own and not own; items stand after the users."""
    batches = UserBatches(log(), 3, epoch_users=100, samples=4)
    assert len(batches) == 2
    for seed in range(20):
        steps = list(batches(generator(seed)))
        people = [sorted(set(b.users.tolist())) for b in steps]
        assert [len(p) for p in people] == [3, 1]
        assert sorted(u for p in people for u in p) == [0, 1, 2, 4]
        for batch in steps:
            assert batch.users.dtype == batch.positives.dtype == batch.negatives.dtype == torch.int64
            for user in set(batch.users.tolist()):
                mine = batch.users == user
                positives = (batch.positives[mine] - USERS).tolist()
                negatives = (batch.negatives[mine] - USERS).tolist()
                own = HAS[user]
                assert len(positives) == len(negatives) == min(4, len(own), ITEMS - len(own))
                assert set(positives) <= own
                assert set(negatives) <= set(range(ITEMS)) - own
                assert len(set(positives)) == len(set(negatives)) == len(positives)


def test_no_more_users_than_asked_for():
    batches = UserBatches(log(), 2, epoch_users=3, samples=2)
    assert len(batches) == 2
    seen = [tuple(sorted({u for b in batches(generator(seed)) for u in b.users.tolist()})) for seed in range(30)]
    assert {len(s) for s in seen} == {3}
    assert len(set(seen)) == 4  # each of the four sets of three


def test_sets_are_uniform():
    """Two of user 1's five items, and both items that are left; user 4: two of four negatives. Chi-square over 3,000 epochs."""
    batches = UserBatches(log(), 5, epoch_users=5, samples=2)
    rng = generator(1)
    of_one, of_four = dict.fromkeys(combinations([0, 1, 3, 5, 6], 2), 0), dict.fromkeys(combinations([0, 2, 3, 5], 2), 0)
    first = np.zeros(ITEMS)  # a positive is paired with any negative
    for _ in range(3000):
        (batch,) = batches(rng)
        for user, kept, counts in ((1, batch.positives, of_one), (4, batch.negatives, of_four)):
            counts[tuple(sorted((kept[batch.users == user] - USERS).tolist()))] += 1
        first[batch.negatives[batch.users == 4][0] - USERS] += 1
    for counts in (list(of_one.values()), list(of_four.values()), first[[0, 2, 3, 5]]):
        assert stats.chisquare(counts).pvalue > 1e-3


def test_draws_are_those_of_the_generator():
    batches = UserBatches(log(), 2, epoch_users=5, samples=3)
    runs = [[torch.stack([b.users, b.positives, b.negatives]) for b in batches(generator(seed))] for seed in (4, 4, 5)]
    assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(runs[0], runs[2], strict=True))


@pytest.mark.parametrize("name", ["batch_size", "epoch_users", "samples"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be 1 or more, got 0"):
        UserBatches(log(), **{"batch_size": 1, "epoch_users": 1, "samples": 1, name: 0})


def test_a_user_without_negatives_is_refused():
    with pytest.raises(ValueError, match="user '3' has every one of the 7 items"):
        UserBatches(log({0: {1}, 3: set(range(7))}), 1, epoch_users=1, samples=1)
    nothing = log().take(np.zeros(0, dtype=np.int64))
    with pytest.raises(ValueError, match="no interactions"):
        UserBatches(nothing, 1, epoch_users=1, samples=1)
