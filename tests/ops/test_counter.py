"""The counter generator against its definition in Python's whole numbers, twice over; and what a table of draws looks like."""

import numba
import numpy as np
import pytest
import torch
from scipy import stats

from graphcl.ops.counter import column_bits, draw_key, halves, row_state, uniform

LOW = 2**32 - 1
ROWS = [0, 1, 2, 7, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 5 * 2**32 + 3, 2**40 + 12345]
KEYS = [0, 1, 2**31 + 5, 2**32, 2**32 + 1, 2**61 + 987654321, 2**62 - 1]


def lowbias32(h: int) -> int:
    h ^= h >> 16
    h = h * 0x7FEB352D & LOW
    h ^= h >> 15
    h = h * 0x846CA68B & LOW
    return h ^ h >> 16


def by_hand(key: int, row: int, column: int) -> float:
    folded = (row & LOW) ^ ((row >> 32) * 0x7FEB352D & LOW)
    state = lowbias32(lowbias32(folded ^ (key & LOW)) ^ (key >> 32))
    return (lowbias32((state + column * 0x9E3779B9) & LOW) >> 8) / 2**24


@numba.njit
def by_numba(low, high, rows, out):
    for n in range(len(rows)):
        state = row_state(low, high, rows[n])
        for k in range(out.shape[1]):
            out[n, k] = np.float32(column_bits(state, k) >> np.uint32(8)) * np.float32(2.0**-24)


@pytest.mark.parametrize("key", KEYS)
def test_torch_and_numba_equal_the_definition_bit_for_bit(key):
    expected = np.array([[by_hand(key, row, column) for column in range(5)] for row in ROWS], dtype=np.float32)
    np.testing.assert_array_equal(uniform(key, torch.tensor(ROWS), 5).numpy(), expected)
    found = np.empty_like(expected)
    by_numba(*halves(key), np.array(ROWS), found)
    np.testing.assert_array_equal(found, expected)


def test_a_row_does_not_depend_on_the_rows_around_it():
    whole = uniform(11, torch.arange(100), 3)
    some = torch.tensor([93, 4, 4])
    assert torch.equal(uniform(11, some, 3), whole[some])
    assert torch.equal(uniform(11, torch.arange(100), 2), whole[:, :2])


def test_draws_are_uniform():
    draws = uniform(3, torch.arange(20_000), 8).double()
    assert 0 <= draws.min() < 1e-4
    assert 1 - 1e-4 < draws.max() < 1
    n = draws.numel()
    assert abs(draws.mean() - 1 / 2) < 5 * (1 / 12 / n) ** 0.5
    assert abs(draws.var() - 1 / 12) < 5 * (1 / 180 / n) ** 0.5  # variance of (U - 1/2)^2
    assert stats.kstest(draws.flatten().numpy(), "uniform").pvalue > 1e-3
    for column in draws.T.numpy():
        assert stats.kstest(column, "uniform").pvalue > 1e-4


def test_columns_rows_and_keys_are_not_correlated():
    rows = torch.arange(20_000)
    one = uniform(3, rows, 4)
    others = {
        "next row": uniform(3, rows + 1, 4),
        "row above 2^32": uniform(3, rows + 2**32, 4),
        "next key": uniform(4, rows, 4),
        "key above 2^32": uniform(3 + 2**32, rows, 4),
        "top bit of the key": uniform(3 + 2**61, rows, 4),
    }
    for name, other in others.items():
        assert not torch.equal(one, other), name
        both = np.corrcoef(torch.cat([one, other], 1).numpy().T) - np.eye(8)
        assert np.abs(both).max() < 5 / len(rows) ** 0.5, name


def test_pairs_of_columns_fill_the_square_evenly():
    draws = uniform(17, torch.arange(20_000), 3).numpy()
    for a, b in ((0, 1), (1, 2), (0, 2)):
        counts, _, _ = np.histogram2d(draws[:, a], draws[:, b], bins=10, range=[[0, 1], [0, 1]])
        assert stats.chisquare(counts.flatten()).pvalue > 1e-3


def test_a_key_is_drawn_from_the_generator_alone():
    before = torch.get_rng_state()
    rng = torch.Generator().manual_seed(5)
    keys = [draw_key(rng) for _ in range(200)]
    assert torch.equal(torch.get_rng_state(), before)
    assert len(set(keys)) == 200
    assert min(keys) >= 0
    assert 2**61 < max(keys) < 2**62  # all 62 bits are used
    assert draw_key(torch.Generator().manual_seed(5)) == keys[0]
