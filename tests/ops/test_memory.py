"""Memory that is used again only when nobody holds it."""

import gc
import sys
import threading

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


def test_threads_take_and_give_back_together():
    """Places in the list were once looked up and then popped, while another thread had changed it."""
    failures, like, interval = [], torch.zeros(1), sys.getswitchinterval()

    def work(rows):
        try:
            for turn in range(2000):
                table, other = memory.empty(rows, WIDTH, like), memory.empty(rows + 1, WIDTH, like)
                if turn % 3 == 0:
                    del table
                assert other.shape == (rows + 1, WIDTH)
        except Exception as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(300 + n,)) for n in range(4)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failures
