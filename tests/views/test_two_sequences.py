"""Which operators a row's two copies get, and that they get them."""

from collections import Counter

import pytest
import torch

from graphcl.testing import undisturbed
from graphcl.views import TwoSequences
from tests.histories import NUM_ITEMS, generator, histories, padded, user_batch


def adding(number, wider=0):
    """An operator that leaves its number on every item, and makes rows longer."""

    def operator(items, lengths, rng):
        marked = torch.where(items < NUM_ITEMS, items + 100 * number, items)
        return torch.nn.functional.pad(marked, (wider, 0), value=100 * number), lengths + wider

    return operator


OPERATORS = [adding(1), adding(2), adding(3, wider=2)]
ROWS = [[1, 2, 3], [4], [5, 6]] * 1000


def operators_of(**options):
    items, lengths = padded(ROWS)
    with undisturbed():
        found, kept = TwoSequences(OPERATORS, NUM_ITEMS, **options).changed(items, lengths, generator())
    pairs = []
    for row, original in enumerate(ROWS):
        pair = []
        for view in (row, row + len(ROWS)):
            number = int(found[view, 0]) // 100
            expected = [item + 100 * number for item in original]
            if number == 3:
                expected = [300, 300, *expected]
            assert found[view, : kept[view]].tolist() == expected
            assert (found[view, kept[view] :] == NUM_ITEMS).all()
            pair.append(number)
        pairs.append(tuple(pair))
    return pairs


def test_two_different_operators():
    pairs = operators_of()
    assert set(pairs[1::3]) == {(0, 0)}  # one item: as it is, twice
    counts = Counter(pairs[0::3] + pairs[2::3])
    assert set(counts) == {(a, b) for a in (1, 2, 3) for b in (1, 2, 3) if a != b}
    assert all(abs(n - 2000 / 6) < 5 * (2000 * 5 / 36) ** 0.5 for n in counts.values())


def test_an_operator_for_each_view():
    counts = Counter(operators_of(distinct=False))
    assert set(counts) == {(a, b) for a in (1, 2, 3) for b in (1, 2, 3)}
    assert all(abs(n - 3000 / 9) < 5 * (3000 * 8 / 81) ** 0.5 for n in counts.values())


def test_views_are_encoded_in_one_call():
    calls = []

    def encode(items, lengths):
        calls.append(len(items))
        return items[:, :1] + 1000.0 * lengths[:, None]

    batch = user_batch()
    before = batch.items.clone()
    first, second = TwoSequences(OPERATORS[:2], NUM_ITEMS)(encode, histories(), batch, generator())
    assert calls == [6]
    assert torch.equal(batch.items, before)
    assert (first % 100 == batch.items[:, :1]).all()
    assert (second % 100 == batch.items[:, :1]).all()
    assert (first // 1000 == batch.lengths[:, None]).all()
    assert (first != second).all()


def test_too_few_operators():
    with pytest.raises(ValueError, match="two operators at least, got 1"):
        TwoSequences(OPERATORS[:1], 7)
    with pytest.raises(ValueError, match="an operator at least, got 0"):
        TwoSequences([], 7, distinct=False)
