"""DuoRec's other histories against a search through all prefixes."""

from collections import Counter

import torch

from graphcl.sequence import SequenceBatch
from graphcl.testing import undisturbed
from graphcl.views import SameTarget
from graphcl.views.same_target import before
from tests.histories import NUM_ITEMS, generator, histories, prefix_batch, user_batch

# item 2 follows something for users 0 (place 2), 1 (twice), 2 and 4; item 5 for user 3 alone; users 5 and 6 have one item or it first
ROWS = [[0, 1, 2, 3], [2, 2, 4, 2], [5, 1, 2], [3, 5], [6, 0, 3, 2], [2], [4, 4]]


def wanted(user, target, length=6):
    """What other users had before the target, by search."""
    return {
        tuple(row[max(0, end - length) : end])
        for other, row in enumerate(ROWS)
        for end in range(1, len(row))
        if row[end] == target and other != user
    }


def test_others_are_all_found_and_alike():
    data, batch = histories(ROWS), prefix_batch(ROWS)
    view = SameTarget(data, 6)
    counts = [Counter() for _ in batch.targets]
    draws = 600
    for seed in range(draws):
        with undisturbed():
            items, lengths = view.others(data, batch, generator(seed))
        for counter, row, n in zip(counts, items.tolist(), lengths.tolist(), strict=True):
            assert all(item == NUM_ITEMS for item in row[n:])
            counter[tuple(row[:n])] += 1
    for number, (user, target) in enumerate(zip(batch.users.tolist(), batch.targets.tolist(), strict=True)):
        own = tuple(batch.items[number, : batch.lengths[number]].tolist())
        expected = wanted(user, target) or {own}
        assert set(counts[number]) == expected
        if len(expected) > 1 and (user, target) == (0, 2):  # user 1's two visits are two places: (2,) and (2, 2, 4)
            assert len(expected) == 4
            assert all(abs(n - draws / 4) < 5 * (draws * 3 / 16) ** 0.5 for n in counts[number].values())


def test_a_row_of_a_user_asks_for_its_last_target():
    data, batch = histories(ROWS), user_batch(ROWS)
    items, lengths = SameTarget(data, 6).others(data, batch, generator())
    for row, user in enumerate(batch.users.tolist()):
        own = tuple(ROWS[user][:-1])
        assert tuple(items[row, : lengths[row]].tolist()) in (wanted(user, ROWS[user][-1]) or {own})


def test_a_row_without_a_target_at_its_end_is_its_own_partner():
    items = torch.tensor([[0, 1, 2]])
    batch = SequenceBatch(items, torch.tensor([3]), torch.tensor([0, 1]), torch.tensor([1, 2]), torch.tensor([0]))
    others, lengths = SameTarget(histories(ROWS), 6).others(histories(ROWS), batch, generator())
    assert others[:, :3].tolist() == [[0, 1, 2]]
    assert lengths.tolist() == [3]


def test_long_histories_lose_their_oldest_items():
    items, lengths = before(histories(ROWS), torch.tensor([3, 5, 7]), 2)
    assert items.tolist() == [[1, 2], [2, NUM_ITEMS], [2, 4]]
    assert lengths.tolist() == [2, 1, 2]


def test_both_views_are_encoded_at_once():
    data, batch = histories(ROWS), prefix_batch(ROWS)
    calls = []
    encode = lambda items, lengths: calls.append(len(items)) or items[:, :1].double()  # noqa: E731
    first, second = SameTarget(data, 6)(encode, data, batch, generator())
    assert calls == [2 * len(batch.targets)]
    assert torch.equal(first, batch.items[:, :1].double())
    assert torch.equal(second, SameTarget(data, 6).others(data, batch, generator())[0][:, :1].double())
