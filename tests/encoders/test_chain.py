"""Rows of every layer as one function, against the layers one by one."""

import pytest
import torch

from graphcl.contracts import Layers
from graphcl.encoders.chain import Hop, propagated
from graphcl.graph import bipartite
from graphcl.perturb.noise import SignNoise
from graphcl.testing import tiny_graph, tiny_interactions

ROWS = torch.tensor([0, 3, 4, 8, 8])  # 4 is isolated, 8 comes twice


def table() -> torch.Tensor:
    return torch.randn(11, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)


def hops(num_layers=3, unit=False, perturb=None, graph=None):
    graph = tiny_graph(torch.float64) if graph is None else graph
    return [Hop(graph.op(number), unit, perturb, 5 + number) for number in range(num_layers)]


def by_hand(h, made):
    """Dense layers; noise, which is a constant, is taken from the whole layer's own."""
    layers = [h]
    for hop in made:
        dense = torch.from_numpy(hop.op.to_scipy().toarray())
        x = layers[-1]
        out = dense @ (x / x.norm(dim=1, keepdim=True).clamp_min(1e-12) if hop.unit else x)
        if hop.perturb is not None:
            out = out + (hop(layers[-1]) - hop.op @ layers[-1]).detach()
        layers.append(out)
    return layers


@pytest.mark.parametrize("options", [{}, {"num_layers": 1}, {"perturb": SignNoise(0.3)}, {"unit": True}])
@pytest.mark.parametrize("read", [(0, 1, 2, 3), (0,), (3,), (1, 2)])
def test_rows_and_their_gradient(options, read):
    made = hops(**options)
    read = [layer for layer in read if layer <= len(made)] or [0]
    weights = torch.randn(len(made) + 1, len(ROWS), 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    h, other = table(), table()
    near = propagated(h, made).at(ROWS)
    expected = by_hand(other, made)
    for layer in range(len(made) + 1):
        torch.testing.assert_close(near[layer], expected[layer][ROWS], rtol=1e-9, atol=1e-12)
    sum((near[layer] * weights[layer]).sum() for layer in read).backward()
    sum((expected[layer][ROWS] * weights[layer]).sum() for layer in read).backward()
    torch.testing.assert_close(h.grad, other.grad, rtol=1e-9, atol=1e-12)


def test_each_hop_has_its_own_operator():
    """Unequal exponents: no hop is its own transpose."""
    graphs = [bipartite(tiny_interactions(), exponents=e, dtype=torch.float64) for e in ((0.6, -0.1), (1.0, 0.0))]
    made = [Hop(graph.ops[0], False, None, 0) for graph in graphs]
    h, other = table(), table()
    propagated(h, made).at(ROWS)[2].sum().backward()
    by_hand(other, made)[2][ROWS].sum().backward()
    torch.testing.assert_close(h.grad, other.grad, rtol=1e-6, atol=1e-9)  # scales are float32 roots


def test_whole_layers_are_shared_by_what_follows():
    calls = []
    made = hops(2)
    counted = [lambda x, hop=hop: calls.append(1) or hop(x) for hop in made]
    layers = Layers.growing(table(), counted, lambda each, rows: pytest.fail("whole layers are there"))
    assert layers[2].shape == (11, 4)
    assert torch.equal(layers.at(ROWS)[1], layers[1][ROWS])
    assert len(calls) == 2


def test_no_hops():
    h = table()
    layers = propagated(h, [])
    assert layers.each == (h,)
    assert torch.equal(layers.at(ROWS)[0], h[ROWS])


def test_what_is_not_constant_is_differentiated_layer_by_layer():
    class Halved:
        def __call__(self, h, rng):
            return h / 2

        def after(self, op, x, rng, rows=None):
            return self(op @ x, rng)

    for perturb, expected in ((Halved(), 0.25), (None, 1.0)):
        h = table()
        propagated(h, hops(2, perturb=perturb)).at(ROWS)[2].sum().backward()
        plain = table()
        by_hand(plain, hops(2))[2][ROWS].sum().backward()
        torch.testing.assert_close(h.grad, expected * plain.grad, rtol=1e-9, atol=1e-12)


def test_gradcheck():
    made = hops(2)
    for first, second in ((0, 2), (1, 2), (1, 1)):
        product = lambda h, a=first, b=second: propagated(h, made).at(ROWS)[a] * propagated(h, made).at(ROWS)[b]  # noqa: E731
        assert torch.autograd.gradcheck(product, (table(),))
