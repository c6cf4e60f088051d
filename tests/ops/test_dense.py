"""Row operations against indexing and plain formulas."""

import pytest
import torch

from graphcl.ops import gather_rows, row_norm, unit_rows


def table(n: int = 7) -> torch.Tensor:
    return torch.randn(n, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_gathered_rows_and_their_gradient_add_up_over_repeats():
    x, rows = table().requires_grad_(), torch.tensor([6, 0, 3, 0, 0])
    found = gather_rows(x, rows)
    assert torch.equal(found, x[rows])
    weight = torch.arange(20, dtype=torch.float64).view(5, 4)
    (gradient,) = torch.autograd.grad((found * weight).sum(), x)
    chosen = torch.zeros(5, 7, dtype=torch.float64)
    chosen[torch.arange(5), rows] = 1
    torch.testing.assert_close(gradient, chosen.T @ weight)
    assert torch.autograd.gradcheck(lambda t: gather_rows(t, rows), (x,))


def test_a_gradient_that_is_one_number_spread_out_is_scattered():
    """``sum().backward()`` hands in an expanded tensor, which is not contiguous."""
    x = table().requires_grad_()
    gather_rows(x, torch.tensor([2, 2])).sum().backward()
    assert x.grad is not None
    assert x.grad[:, 0].tolist() == [0, 0, 2, 0, 0, 0, 0]


def test_no_rows():
    x = table().requires_grad_()
    found = gather_rows(x, torch.tensor([], dtype=torch.int64))
    assert found.shape == (0, 4)
    found.sum().backward()
    assert x.grad is not None
    assert not x.grad.any()


def test_rows_outside_the_table_are_refused():
    for rows in ([7], [-1]):
        with pytest.raises((IndexError, RuntimeError)):
            gather_rows(table(), torch.tensor(rows))


def test_lengths_and_unit_rows():
    x = table()
    x[2] = 0
    lengths = torch.tensor([[sum(float(v) ** 2 for v in row) ** 0.5] for row in x], dtype=torch.float64)
    torch.testing.assert_close(row_norm(x), lengths)
    unit = unit_rows(x)
    assert unit[2].tolist() == [0, 0, 0, 0]
    others = torch.tensor([0, 1, 3, 4, 5, 6])
    torch.testing.assert_close(unit[others], x[others] / lengths[others])
    torch.testing.assert_close(unit_rows(unit), unit)


def test_a_zero_row_has_a_finite_gradient():
    x = table().float()
    x[2] = 0
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(unit_rows(x).sum(), x)
    assert gradient.isfinite().all()
    assert torch.autograd.gradcheck(unit_rows, (table().requires_grad_(),))


def test_a_zero_row_in_half_precision():
    """The floor is 0 there."""
    assert unit_rows(torch.zeros(2, 4, dtype=torch.half)).tolist() == [[0.0] * 4] * 2
