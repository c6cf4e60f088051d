"""Memory that is used again only when nobody holds it."""

import gc

import torch

from graphcl.ops import memory

WIDTH = 2**10


def place(table):
    return table.untyped_storage().data_ptr()


def test_memory_comes_back_when_the_last_view_dies():
    like = torch.zeros(1)
    first = memory.empty(1000, WIDTH, like)
    assert (first.shape, first.dtype, place(first) % 64) == ((1000, WIDTH), torch.float32, 0)
    where, row = place(first), first.fill_(7)[3]
    del first
    gc.collect()
    assert place(memory.empty(1000, WIDTH, like)) != where  # `row` stands on it
    assert row.tolist() == [7] * WIDTH
    del row
    again = memory.empty(1000, WIDTH, like)
    assert place(again) == where
    assert place(memory.empty(1000, WIDTH, like)) != where


def test_other_sizes_and_types():
    like = torch.zeros(1, dtype=torch.float64)
    table = memory.empty(500, WIDTH, like)
    assert table.dtype == torch.float64
    where = place(table)
    del table
    assert place(memory.empty(1000, WIDTH, torch.zeros(1))) == where  # as many bytes
    assert memory.empty(3, 4, like).shape == (3, 4)


def test_few_are_kept():
    held = [memory.empty(1000, WIDTH, torch.zeros(1)) for _ in range(10)]
    del held
    gc.collect()
    assert len(memory._free) <= 4
