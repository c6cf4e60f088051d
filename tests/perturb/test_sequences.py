"""Perturbations of histories: each row against its definition, and the draws against their distributions."""

import math
from collections import Counter
from functools import partial
from itertools import pairwise

import pytest
import torch

from graphcl.perturb.sequences import crop, insert, mask, reorder, substitute, substitute_each
from graphcl.testing import undisturbed
from tests.histories import generator, padded

NO = 20
SIMILAR = torch.stack([torch.arange(20) + 100, torch.arange(20) + 200], 1)  # told apart from items at sight
ROWS = [list(range(n)) for n in (1, 2, 3, 5, 10, 12)] * 5
OPERATORS = {
    "crop": partial(crop, keep=0.6, no_item=NO),
    "mask": partial(mask, share=0.3, no_item=NO),
    "reorder": partial(reorder, share=0.6),
    "substitute": partial(substitute, share=0.2, similar=SIMILAR),
    "substitute_each": partial(substitute_each, probability=0.2, similar=SIMILAR),
    "insert": partial(insert, share=0.4, similar=SIMILAR, no_item=NO, max_length=12),
}


def run(operator, rows, seed=0):
    """Each row of the result without its padding."""
    items, lengths = padded(rows, NO)
    found, kept = operator(items, lengths, rng=generator(seed))
    assert (found[torch.arange(found.shape[1]) >= kept[:, None]] == NO).all(), "padding"
    return [row[:n].tolist() for row, n in zip(found, kept, strict=True)]


@pytest.mark.parametrize("name", OPERATORS)
def test_pure_repeatable_and_from_rng_alone(name):
    items, lengths = padded(ROWS, NO)
    before = items.clone(), lengths.clone()
    with undisturbed():
        first, second = (OPERATORS[name](items, lengths, rng=generator(3)) for _ in range(2))
    assert torch.equal(items, before[0])
    assert torch.equal(lengths, before[1])
    assert all(map(torch.equal, first, second))
    assert first[0].data_ptr() != items.data_ptr()
    assert run(OPERATORS[name], ROWS, 1) != run(OPERATORS[name], ROWS, 2)


def alike(counts: Counter, values, total: int) -> None:
    """Each of the values about equally often and nothing else; five standard deviations."""
    assert set(counts) == set(values)
    p = 1 / len(counts)
    assert all(abs(n - total * p) < 5 * math.sqrt(total * p * (1 - p)) for n in counts.values()), counts


def test_crop():
    for row, found in zip(ROWS, run(OPERATORS["crop"], ROWS), strict=True):
        n = max(1, math.floor(0.6 * len(row)))
        assert found == list(range(found[0], found[0] + n))
        assert found[-1] < len(row)
    found = run(OPERATORS["crop"], [list(range(5))] * 3000)
    alike(Counter(row[0] for row in found), range(3), 3000)


def test_mask():
    for row, found in zip(ROWS, run(OPERATORS["mask"], ROWS), strict=True):
        assert len(found) == len(row)
        assert found.count(NO) == math.floor(0.3 * len(row))
        assert all(new in (old, NO) for new, old in zip(found, row, strict=True))
    assert run(OPERATORS["mask"], [[7]]) == [[7]]  # floor(.3) places
    found = run(OPERATORS["mask"], [list(range(8))] * 4000)
    pairs = Counter(tuple(t for t, item in enumerate(row) if item == NO) for row in found)
    alike(pairs, [(a, b) for a in range(8) for b in range(a + 1, 8)], 4000)  # the last place too


def test_shares_are_of_doubles():
    found, _ = mask(torch.arange(100)[None], torch.tensor([100]), share=0.29, no_item=100, rng=generator())
    assert int((found == 100).sum()) == 28  # .29 * 100 is 28.999..., and 29 in float32


def test_reorder():
    for row, found in zip(ROWS, run(OPERATORS["reorder"], ROWS), strict=True):
        assert sorted(found) == row
        moved = [t for t, (new, old) in enumerate(zip(found, row, strict=True)) if new != old]
        assert not moved or moved[-1] - moved[0] < math.floor(0.6 * len(row))
    found = run(partial(reorder, share=0.75), [[0, 1, 2, 3]] * 6000)
    # three in a row from the first or the second place, 6 orders each; those that both windows can make count twice
    expected = Counter()
    for start in (0, 1):
        for order in [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]:
            row = [0, 1, 2, 3]
            row[start : start + 3] = [start + place for place in order]
            expected[tuple(row)] += 500
    counts = Counter(map(tuple, found))
    assert set(counts) == set(expected)
    assert all(abs(counts[row] - n) < 5 * math.sqrt(n) for row, n in expected.items()), counts


def test_substitute():
    for row, found in zip(ROWS, run(OPERATORS["substitute"], ROWS), strict=True):
        changed = [(new, old) for new, old in zip(found, row, strict=True) if new != old]
        assert len(changed) == max(1, math.floor(0.2 * len(row)))
        assert all(new in (100 + old, 200 + old) for new, old in changed)
    found = run(OPERATORS["substitute"], [list(range(3))] * 3000)
    kinds = Counter(next((t, new // 100) for t, new in enumerate(row) if new >= 100) for row in found)
    alike(kinds, [(t, k) for t in range(3) for k in (1, 2)], 3000)


def test_substitute_each():
    found = run(OPERATORS["substitute_each"], [list(range(4))] * 3000)
    for place in range(4):
        kinds = Counter((row[place] // 100) for row in found)
        assert set(kinds) == {0, 1, 2}
        assert abs(kinds[0] - 2400) < 5 * math.sqrt(3000 * 0.2 * 0.8)
        assert abs(kinds[1] - 300) < 5 * math.sqrt(3000 * 0.1 * 0.9)
    together = sum(all(item >= 100 for item in row[:2]) for row in found)
    assert abs(together - 120) < 5 * math.sqrt(120)  # places do not depend on each other


def test_what_is_no_item_is_not_substituted():
    items, lengths = padded([[NO, NO, NO]], NO)
    for name in ("substitute", "substitute_each"):
        assert OPERATORS[name](items, lengths, rng=generator())[0].tolist() == [[NO] * 3]


def test_insert():
    for row, found in zip(ROWS, run(OPERATORS["insert"], ROWS), strict=True):
        count = max(1, math.floor(0.4 * len(row)))
        assert len(found) == min(12, len(row) + count)
        kept = [item for item in found if item < 100]
        assert kept == row[len(row) - len(kept) :]
        for new, after in pairwise(found):
            assert new < 100 or (after < 100 and new % 100 == after)
        assert found[-1] == row[-1]
        if len(row) + count <= 12:
            assert sum(item >= 100 for item in found) == count
    long = run(partial(insert, share=0.5, similar=SIMILAR[:, :1], no_item=NO, max_length=4), [list(range(4))] * 200)
    full = {tuple(row) for row in long}  # the last four of six
    expected = set()
    for places in [(a, b) for a in range(4) for b in range(a + 1, 4)]:
        row = [item for t in range(4) for item in ([100 + t, t] if t in places else [t])]
        expected.add(tuple(row[-4:]))
    assert full == expected


def test_one_item():
    assert run(OPERATORS["crop"], [[4]]) == [[4]]
    assert run(OPERATORS["reorder"], [[4]]) == [[4]]
    assert run(OPERATORS["substitute"], [[4]])[0][0] in (104, 204)
    assert run(OPERATORS["insert"], [[4]])[0][1:] == [4]
