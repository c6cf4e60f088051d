"""Layers: what is gathered, when, and how often."""

import pytest
import torch

from graphcl.contracts import Layers

E = tuple(torch.randn(5, 3, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in range(3))
ROWS = torch.tensor([4, 0, 0])


class Watched:
    """Layers that note which of them is read."""

    def __init__(self):
        self.read: list[int] = []

    def __len__(self):
        return 3

    def __getitem__(self, index):
        self.read.append(index)
        return E[index]


def test_layers_are_the_tensors_that_were_given():
    layers = Layers(E)
    assert len(layers) == 3
    assert layers[0] is E[0]
    assert layers[-1] is E[2]
    assert layers.each is E


def test_a_layer_that_is_not_read_is_never_gathered():
    each = Watched()
    some = Layers(each).at(ROWS)
    assert each.read == []
    assert len(some) == 3
    assert torch.equal(some[1], E[1][ROWS])
    assert each.read == [1]


def test_a_layer_is_gathered_once_however_often_it_is_read():
    each = Watched()
    some = Layers(each).at(ROWS)
    assert some[2] is some[2]
    assert some[-1] is some[2]
    assert [h is some[n] for n, h in enumerate(some.each[1:], 1)] == [True, True]
    assert sorted(each.read) == [1, 2]


def test_slices_and_ends():
    some = Layers(E).at(ROWS)
    assert [torch.equal(a, b[ROWS]) for a, b in zip(some.each[::2], (E[0], E[2]), strict=True)] == [True, True]
    assert some.each[3:] == ()
    for index in (3, -4):
        with pytest.raises(IndexError):
            some[index]


def test_rows_of_rows():
    again = Layers(E).at(ROWS).at(torch.tensor([2, 0]))
    assert torch.equal(again[1], E[1][[0, 4]])


def test_gradients_of_rows_that_stand_twice_add_up():
    table = E[0].clone().requires_grad_()
    Layers((table,)).at(ROWS)[0].sum().backward()
    assert table.grad.tolist() == [[2] * 3, [0] * 3, [0] * 3, [0] * 3, [1] * 3]


def test_layers_grow_and_near_rows_cost_no_whole_layer():
    asked = []

    def hop(x):
        asked.append("whole")
        return x + 1

    def near(each, rows):
        assert each is layers.each
        asked.append(rows.tolist())
        return tuple(E[0][rows] + number for number in range(3))

    layers = Layers.growing(E[0], (hop, hop), near)
    some = layers.at(ROWS)
    assert len(layers) == len(some) == 3
    assert asked == []
    assert torch.equal(some[2], E[0][ROWS] + 2)
    assert torch.equal(some[0], E[0][ROWS])
    assert asked == [[4, 0, 0]]  # once, for all layers
    assert torch.equal(layers[2], E[0] + 2)
    assert layers[-1] is layers[2]
    assert layers[0] is E[0]
    assert asked == [[4, 0, 0], "whole", "whole"]
    assert torch.equal(layers.at(ROWS)[1], E[0][ROWS] + 1)  # whole layers are there: their rows are gathered
    assert len(asked) == 3
