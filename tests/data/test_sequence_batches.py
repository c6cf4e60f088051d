"""Rows of an epoch against a loop over users."""

import numpy as np
import pytest
import torch

from graphcl.data.sequence_batches import prefix_rows, user_rows
from graphcl.interactions import Interactions, Vocabulary
from graphcl.sequence import Sequences
from tests.test_sequence import as_lists

ITEMS = 50


def histories(lengths, seed=0) -> Sequences:
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)
    items = rng.integers(0, ITEMS, len(users)).astype(np.int32)
    return Sequences.from_interactions(
        Interactions(users, items, Vocabulary(np.arange(len(lengths))), Vocabulary(np.arange(ITEMS)))
    )


TRAIN = histories([0, 1, 2, 5, 12, 13, 3, 9, 4, 30])


def rows_of(batches) -> list[tuple]:
    """User, input, and (position, target) of each row of an epoch."""
    found = []
    for batch in batches:
        width = batch.items.shape[1]
        assert width == int(batch.lengths.max())
        assert (batch.items == ITEMS).equal(torch.arange(width) >= batch.lengths[:, None])  # filled on the right, and only there
        assert (batch.places.diff() > 0).all()
        for row, (user, length) in enumerate(zip(batch.users.tolist(), batch.lengths.tolist(), strict=True)):
            mine = batch.places // width == row
            asked = list(zip((batch.places[mine] % width).tolist(), batch.targets[mine].tolist(), strict=True))
            found.append((user, batch.items[row, :length].tolist(), asked))
    return sorted(found)


@pytest.mark.parametrize("length", [1, 4, 50])
def test_user_rows(length):
    wanted = []
    for user, items in enumerate(as_lists(TRAIN)):
        stop = len(items) - 1  # positions before it have a next item
        while stop > 0:
            start = max(0, stop - length)
            wanted.append((user, items[start:stop], [(t - start, items[t + 1]) for t in range(start, stop)]))
            stop = start
    got = rows_of(user_rows(TRAIN, length, 7)(torch.Generator().manual_seed(0)))
    assert got == sorted(wanted)
    assert sum(len(asked) for _, _, asked in got) == int((TRAIN.lengths - 1).clamp(min=0).sum())


@pytest.mark.parametrize("length", [1, 4, 50])
def test_prefix_rows(length):
    wanted = []
    for user, items in enumerate(as_lists(TRAIN)):
        for place in range(1, len(items)):
            prefix = items[max(0, place - length) : place]
            wanted.append((user, prefix, [(len(prefix) - 1, items[place])]))
    assert rows_of(prefix_rows(TRAIN, length, 7)(torch.Generator().manual_seed(0))) == sorted(wanted)


@pytest.mark.parametrize("rows", [user_rows, prefix_rows])
def test_an_epoch_writes_nothing_and_follows_its_generator(rows):
    train = histories([7] * 30)
    before = train.items.clone(), train.pointers.clone()
    epochs = rows(train, 5, 20)

    def drawn(seed):
        return [batch.items for batch in epochs(torch.Generator().manual_seed(seed))]

    first = drawn(0)
    assert all(a.equal(b) for a, b in zip(first, drawn(0), strict=True))
    assert not all(a.equal(b) for a, b in zip(first, drawn(1), strict=True))
    for batch in first:
        batch.fill_(0)  # what a batch holds is its own
    assert train.items.equal(before[0])
    assert train.pointers.equal(before[1])


def test_batches_are_measured_in_targets():
    lengths = np.random.default_rng(0).geometric(0.15, 3000)
    train = histories(lengths)
    total, longest = int((lengths - 1).sum()), 20
    sizes = [len(batch.targets) for batch in user_rows(train, longest, 500)(torch.Generator().manual_seed(0))]
    assert sum(sizes) == total
    assert len(sizes) == round(total / 500)
    assert max(abs(size - total / len(sizes)) for size in sizes) < longest
    assert {len(b.targets) for b in prefix_rows(train, longest, 100)(torch.Generator())} <= {99, 100, 101}


def test_batches_hold_rows_of_like_length_in_random_order():
    lengths = np.random.default_rng(0).geometric(0.15, 5000) + 1
    batches = list(user_rows(histories(lengths), 50, 500)(torch.Generator().manual_seed(0)))
    filled = sum(int(batch.lengths.sum()) for batch in batches) / sum(batch.items.numel() for batch in batches)
    assert filled > 0.85
    widths = np.array([batch.items.shape[1] for batch in batches])
    assert abs(np.corrcoef(widths[1:], widths[:-1])[0, 1]) < 0.4  # sorted ones would have 1


def test_a_pool_of_one_draws_rows_of_any_length():
    """Lengths of a batch spread as those of all rows do."""
    lengths = np.random.default_rng(0).geometric(0.15, 5000) + 1
    spread = {}
    for pool in (1, 16):
        batches = list(prefix_rows(histories(lengths), 50, 500, pool)(torch.Generator().manual_seed(0)))
        rows = torch.cat([batch.lengths for batch in batches])
        spread[pool] = float(torch.stack([batch.lengths.double().std() for batch in batches]).mean() / rows.double().std())
    assert spread[1] == pytest.approx(1, abs=0.05)
    assert spread[16] < 0.2


def test_what_is_refused():
    with pytest.raises(ValueError, match="no user has two items"):
        user_rows(histories([1, 0, 1]), 5, 5)
    with pytest.raises(ValueError, match="max_length must be 1 or more, got 0"):
        prefix_rows(TRAIN, 0, 5)
    with pytest.raises(ValueError, match="batch_size must be 1 or more, got 0"):
        user_rows(TRAIN, 5, 0)
