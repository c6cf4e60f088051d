"""Histories, and what stands before a held-out item."""

import numpy as np
import pytest
import torch

from graphcl.interactions import Interactions, Vocabulary
from graphcl.sequence import NextItems, SequenceBatch, Sequences, in_order, padded


def log(users, items, time=None, num_users=None, num_items=None) -> Interactions:
    ids = Vocabulary(np.arange(num_users or max(users) + 1) * 10), Vocabulary(np.arange(num_items or max(items) + 1) * 10)
    return Interactions(
        np.array(users, np.int32), np.array(items, np.int32), *ids, time=None if time is None else np.array(time, float)
    )


def as_lists(histories: Sequences) -> list[list[int]]:
    return [part.tolist() for part in histories.items.split(histories.lengths.tolist())]


def test_file_order_and_repeats_stay():
    found = Sequences.from_interactions(log([1, 0, 1, 1, 3], [2, 0, 1, 2, 0]))
    assert as_lists(found) == [[0], [2, 1, 2], [], [0]]
    assert found.pointers.tolist() == [0, 1, 4, 4, 5]
    assert found.users.tolist() == [0, 1, 1, 1, 3]
    assert found.items.dtype == torch.int64
    assert found.item_ids.ids.tolist() == [0, 10, 20]


def test_time_orders_and_ties_keep_file_order():
    found = Sequences.from_interactions(log([0, 0, 1, 0, 0], [3, 1, 0, 2, 4], time=[5, 5, 1, 2, 5]))
    assert as_lists(found) == [[2, 3, 1, 4], [0]]
    many = log([0] * 500, range(500), time=np.arange(500) // 100 * -1)
    assert in_order(many).tolist() == [100 * (4 - block) + i for block in range(5) for i in range(100)]


def test_the_first_items_of_each_user():
    whole = Sequences.from_interactions(log([0, 0, 0, 1, 2, 2], [0, 1, 2, 3, 4, 5]))
    found = whole.first(torch.tensor([2, 0, 2]))
    assert as_lists(found) == [[0, 1], [], [4, 5]]
    assert found.item_ids is whole.item_ids
    assert as_lists(whole) == [[0, 1, 2], [3], [4, 5]]


def test_rows_are_filled_on_the_right():
    whole = Sequences.from_interactions(log([0, 0, 0, 1, 2, 2], [0, 1, 2, 3, 4, 5]))
    items, lengths = whole.histories(torch.tensor([2, 0, 1]))
    assert items.tolist() == [[4, 5, 6], [0, 1, 2], [3, 6, 6]]
    assert lengths.tolist() == [2, 3, 1]
    items, lengths = whole.histories(torch.tensor([0, 1]), max_length=2)
    assert (items.tolist(), lengths.tolist()) == ([[1, 2], [3, 6]], [2, 1])
    assert padded(whole.items, torch.tensor([6]), torch.tensor([0]), 6).shape == (1, 0)


def test_what_stands_before_a_target():
    whole = Sequences.from_interactions(log([0, 0, 0, 1, 1, 1, 1], [0, 1, 2, 3, 4, 5, 3]))
    held_out = NextItems(whole, torch.tensor([1, 0, 1]), torch.tensor([6, 2, 4]))
    assert held_out.targets.tolist() == [3, 2, 4]
    assert held_out.lengths.tolist() == [3, 2, 1]
    items, lengths = held_out.histories(torch.tensor([0, 2]))
    assert (items.tolist(), lengths.tolist()) == ([[3, 4, 5], [3, 6, 6]], [3, 1])
    assert held_out.histories(torch.tensor([0]), 2)[0].tolist() == [[4, 5]]
    assert len(held_out) == 3


def test_to_moves_every_tensor():
    whole = Sequences.from_interactions(log([0, 0], [0, 1]))
    assert whole.to("meta").items.device.type == whole.to("meta").pointers.device.type == "meta"
    batch = SequenceBatch(*(torch.zeros(1) for _ in range(5))).to("meta")
    assert all(t.device.type == "meta" for t in vars(batch).values())


@pytest.mark.gpu
def test_rows_on_a_device():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    whole = Sequences.from_interactions(log([0, 0, 0, 1], [0, 1, 2, 3])).to("cuda")
    assert whole.histories(torch.tensor([1, 0], device="cuda"))[0].tolist() == [[3, 4, 4], [0, 1, 2]]
    assert whole.first(torch.tensor([1, 1], device="cuda")).items.tolist() == [0, 3]
