"""The queue of keys: what stands in the denominator at each step, and that a checkpoint holds it."""

import pytest
import torch
from torch.testing import assert_close

from graphcl.objectives import Bank
from tests.objectives.dense import Table, csr, table

D, T = 3, 0.5


def test_steps():
    query, key, later = table(2, D, 0), table(8, D, 1), table(8, D, 2)
    bank = Bank({"node": 8}, 3, D).double()
    first = bank(query, Table(key), torch.tensor([4, 1]), temperature=T)
    assert_close(first, (query @ key[[1, 4]].T / T).logsumexp(1))  # nothing is kept yet
    again = bank(query, Table(key), torch.tensor([4, 1]), temperature=T)
    assert_close(again, first)  # nor before the step has ended
    bank.after_step(None, 1, torch.Generator())
    second = bank(query, Table(later), torch.tensor([4, 6]), temperature=T)
    seen = torch.stack([later[4], later[6], key[1].detach()])  # key 4 stands in the batch afresh
    assert_close(second, (query @ seen.T / T).logsumexp(1))
    assert torch.autograd.grad(second.sum(), key, allow_unused=True)[0] is None
    bank.after_step(None, 2, torch.Generator())
    kept = Bank({"node": 8}, 3, D).double()
    kept.load_state_dict(bank.state_dict())
    banned = torch.zeros(2, 8)
    banned[0, 6] = banned[1, 1] = 1
    third = kept(query, Table(key), torch.tensor([0, 0]), temperature=T, exclude=csr(banned))
    rows = [[key[0], later[4].detach(), key[1].detach()], [key[0], later[4].detach(), later[6].detach()]]
    expected = torch.stack([torch.stack([query[i] @ k / T for k in rows[i]]).logsumexp(0) for i in range(2)])
    assert_close(third, expected)
    kept.after_step(None, 3, torch.Generator())
    assert set(kept.node_ids.tolist()) == {0, 4, 6}  # the oldest has gone


def test_gap_is_of_the_mean_exponential():
    key = torch.ones(8, D, dtype=torch.float64)
    bank = Bank({"node": 8}, 3, D).double()
    bank(torch.ones(2, D, dtype=torch.float64), Table(key), torch.tensor([4, 1]), temperature=T)
    assert abs(bank.gaps["node"].mean) < 1e-12  # two of eight equal keys


def two_layers():
    bank = Bank({"node": 8}, 3, D)
    for seed in (1, 2):
        bank(table(2, D, 0), Table(table(8, D, seed)), torch.tensor([0, 1]), temperature=T)
    bank.after_step(None, 1, torch.Generator())


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: Bank({"node": 8}, 0, D), "size must be 1 or more"),
        (lambda: Bank({"node": 8}, 3, D)(table(2, D, 0), Table(table(8, D, 1)), torch.tensor([0, 1]), temperature=T, kind="x"), "no kind 'x'"),
        (lambda: two_layers(), "other keys of kind node came in one step"),
        (lambda: Bank({"node": 8}, 3, 5)(table(2, D, 0), Table(table(8, D, 1)), torch.tensor([0, 1]), temperature=T), "rows of width 5, got 3"),
    ],
)  # fmt: skip
def test_bad_input(call, told):
    with pytest.raises(ValueError, match=told):
        call()


def test_what_stays_of_a_large_step_is_drawn():
    """Rows stand by degree: the first of them would be hubs at every step."""
    key, g, kept = table(200, D, 0), torch.Generator().manual_seed(0), torch.zeros(200)
    for step in range(400):
        bank = Bank({"node": 200}, 5, D).double()
        bank(table(20, D, 1), Table(key), torch.arange(0, 200, 10), temperature=T)
        bank.after_step(None, step, g)
        assert_close(bank.node_rows, key[bank.node_ids].detach())
        kept[bank.node_ids] += 1
    assert kept[::10].min() > 60  # of 400, each stays in 100
    assert kept[::10].max() < 140
