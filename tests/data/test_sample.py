"""Triples: which pairs, which negatives, how often."""

import numpy as np
import pytest
import torch
from scipy import stats

from graphcl.data import sample
from graphcl.data.sample import Triples
from graphcl.interactions import Interactions, Vocabulary
from graphcl.testing import tiny_interactions, undisturbed

PAIRS = {(0, 0), (0, 1), (1, 1), (1, 2), (1, 3), (2, 0), (2, 3), (3, 3), (3, 4)}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def epoch(triples: Triples, rng: torch.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users, positive and negative items of one epoch, items counted from 0."""
    batches = list(triples(rng))
    columns = [torch.cat([getattr(b, name) for b in batches]).numpy() for name in ("users", "positives", "negatives")]
    return columns[0], columns[1] - triples.num_users, columns[2] - triples.num_users


def larger() -> Interactions:
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 40, 400), rng.zipf(1.4, 400) % 60
    return Interactions(users.astype(np.int32), items.astype(np.int32), Vocabulary(np.arange(42)), Vocabulary(np.arange(60)))


def test_every_training_pair_once_an_epoch():
    triples = Triples(tiny_interactions(), 4)
    for seed in range(3):
        users, positives, _ = epoch(triples, generator(seed))
        assert len(users) == 9
        assert set(zip(users.tolist(), positives.tolist(), strict=True)) == PAIRS


@pytest.mark.parametrize("balance", ["interactions", "users"])
def test_how_many_are_drawn_together_changes_nothing(monkeypatch, balance):
    triples = Triples(larger(), 7, balance=balance)
    whole = epoch(triples, generator())
    monkeypatch.setattr(sample, "_AT_A_TIME", 20)  # two batches
    for one, other in zip(whole, epoch(triples, generator()), strict=True):
        np.testing.assert_array_equal(one, other)


def test_batches_are_rows_of_the_graph_in_pieces_of_the_size_asked_for():
    triples = Triples(tiny_interactions(), 4)
    assert len(triples) == 3
    batches = list(triples(generator()))
    assert [len(b.users) for b in batches] == [4, 4, 1]
    for batch in batches:
        assert batch.users.dtype == batch.positives.dtype == batch.negatives.dtype == torch.int64
        assert batch.users.max() < 5
        assert torch.cat([batch.positives, batch.negatives]).min() >= 5
        assert torch.cat([batch.positives, batch.negatives]).max() < 11
    assert len(Triples(tiny_interactions(), 9)) == 1
    assert len(Triples(tiny_interactions(), 100)) == 1


@pytest.mark.parametrize("balance", ["interactions", "users"])
def test_negatives_are_never_in_train(balance):
    log = larger()
    known = log.matrix.toarray() > 0
    triples = Triples(log, 64, balance=balance)
    rng = generator()
    for _ in range(5):
        users, positives, negatives = epoch(triples, rng)
        assert known[users, positives].all()
        assert not known[users, negatives].any()


def test_negatives_are_uniform_over_the_items_that_a_user_does_not_have():
    users = np.repeat(np.arange(300), 4).astype(np.int32)
    items = np.tile(np.array([0, 3, 4, 9], dtype=np.int32), 300)
    triples = Triples(Interactions(users, items, Vocabulary(np.arange(300)), Vocabulary(np.arange(11))), 256)
    rng = generator(1)
    found = np.stack([epoch(triples, rng)[2] for _ in range(5)])
    counts = np.bincount(found.ravel(), minlength=11)
    assert counts[[0, 3, 4, 9]].tolist() == [0, 0, 0, 0]
    assert stats.chisquare(counts[[1, 2, 5, 6, 7, 8, 10]]).pvalue > 1e-3
    # Nor do draws one after the other, or in two epochs, know of each other.
    for a, b in ((found[0, :-1], found[0, 1:]), (found[0], found[1])):
        table = np.histogram2d(a, b, bins=11, range=[[-0.5, 10.5]] * 2)[0]
        kept = [1, 2, 5, 6, 7, 8, 10]
        assert stats.chi2_contingency(table[np.ix_(kept, kept)]).pvalue > 1e-3


def test_the_one_item_that_is_left_is_found():
    users, items = np.zeros(499, dtype=np.int32), np.delete(np.arange(500), 77).astype(np.int32)
    triples = Triples(Interactions(users, items, Vocabulary(np.arange(1)), Vocabulary(np.arange(500))), 64)
    assert set(epoch(triples, generator())[2].tolist()) == {77}


def test_held_out_items_may_be_negatives():
    log = tiny_interactions()
    train = log.take(~((log.users == 3) & (log.items == 4)))
    rng, triples = generator(), Triples(train, 16)
    drawn = {tuple(p) for _ in range(50) for p in np.stack(epoch(triples, rng))[[0, 2]].T.tolist()}
    assert (3, 4) in drawn


def test_pairs_come_in_random_order():
    triples, rng = Triples(larger(), 1000), generator()
    first, second = (np.stack(epoch(triples, rng)[:2]) for _ in range(2))
    assert (first != second).any()
    assert abs(stats.spearmanr(first[0], np.arange(first.shape[1])).statistic) < 5 / first.shape[1] ** 0.5


def test_balanced_by_users():
    """A user with one item is drawn as often as one with many; then each of their items as often as another."""
    users = np.array([0] * 8 + [1] + [3] * 3, dtype=np.int32)  # user 2 has nothing
    items = np.array([*range(8), 5, 0, 1, 2], dtype=np.int32)
    triples = Triples(Interactions(users, items, Vocabulary(np.arange(4)), Vocabulary(np.arange(10))), 5, balance="users")
    rng = generator()
    drawn = [epoch(triples, rng) for _ in range(300)]
    assert all(len(u) == 12 for u, _, _ in drawn)
    u, i = (np.concatenate([d[k] for d in drawn]) for k in (0, 1))
    assert stats.chisquare(np.bincount(u, minlength=4)[[0, 1, 3]]).pvalue > 1e-3
    assert not (u == 2).any()
    assert stats.chisquare(np.bincount(i[u == 0], minlength=8)).pvalue > 1e-3
    assert stats.chisquare(np.bincount(i[u == 3], minlength=3)).pvalue > 1e-3


@pytest.mark.parametrize("balance", ["interactions", "users"])
def test_function_of_the_generator_alone(balance):
    triples = Triples(larger(), 64, balance=balance)
    with undisturbed():
        one, same, other = (np.stack(epoch(triples, generator(seed))) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_a_user_who_has_everything_is_named():
    users, items = np.array([0, 1, 1, 1], dtype=np.int32), np.array([0, 0, 1, 2], dtype=np.int32)
    log = Interactions(users, items, Vocabulary(np.array(["ann", "bob"], dtype=object)), Vocabulary(np.arange(3)))
    with pytest.raises(ValueError, match="'bob' has every one of the 3 items"):
        Triples(log, 4)
    several = log.take(np.array([0, 1, 2, 2, 2]))  # four rows of bob's, but two items
    assert len(epoch(Triples(several, 4), generator())[0]) == 3


def test_nothing_to_train_on_is_refused():
    with pytest.raises(ValueError, match="no interactions"):
        Triples(tiny_interactions().take(np.zeros(10, dtype=bool)), 4)


def test_settings_outside_their_range_are_refused():
    with pytest.raises(ValueError, match="batch_size"):
        Triples(tiny_interactions(), 0)
    with pytest.raises(ValueError, match="balance"):
        Triples(tiny_interactions(), 4, balance="items")
