"""Encoders of heterogeneous graphs, against the formulas written out."""

import numpy as np
import pytest
import torch
from scipy import sparse
from torch.nn import functional

from graphcl.encoders.hgcn import MetaPathGCN
from graphcl.encoders.projection import Projection, parameter_key
from graphcl.encoders.schema import SchemaEncoder
from graphcl.encoders.semantic import SemanticAttention
from graphcl.ops import Sparse
from graphcl.streams import borrowed


@pytest.fixture
def rng():
    return torch.Generator().manual_seed(3)


def made(rng, kind, *args, **more):
    with borrowed(rng):
        return kind(*args, **more).double()


def op_of(rng, n=6):
    dense = (torch.rand(n, n, generator=rng, dtype=torch.float64) < 0.4).double()
    dense[2] = 0  # a node that gathers nothing
    return Sparse.from_scipy(sparse.csr_matrix(dense.numpy()), dtype=torch.float64), dense


@pytest.mark.parametrize("norm", ["matrix", "row", "none"])
def test_metapath_gcn(rng, norm):
    encoder = made(rng, MetaPathGCN, 4, 2, 0.0, norm)
    op, dense = op_of(rng)
    x = torch.randn(6, 4, generator=rng, dtype=torch.float64)
    layers = encoder(x, op)
    hidden = dense @ (x @ encoder.weights[0])
    hidden = torch.where(hidden > 0, hidden, 0.25 * hidden)  # PReLU's start
    out = dense @ (hidden @ encoder.weights[1])
    if norm == "matrix":
        out = (out - out.mean()) / (out.var(unbiased=False) + 1e-5).sqrt()
    elif norm == "row":
        out = (out - out.mean(1, keepdim=True)) / (out.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    assert len(layers) == 3
    assert layers[0] is x
    torch.testing.assert_close(layers[1], hidden)
    torch.testing.assert_close(layers[2], out)


def test_gcn_starts_within_its_bound_and_refuses_what_it_does_not_know(rng):
    weight = made(rng, MetaPathGCN, 16).weights[0]
    assert weight.abs().max() <= 0.25
    assert weight.abs().max() > 0.24
    with pytest.raises(ValueError, match="norm must be one of matrix, row, none"):
        MetaPathGCN(4, norm="batch")
    with pytest.raises(ValueError, match="num_layers"):
        MetaPathGCN(4, 0)


def test_layers_may_have_their_own_operators(rng):
    encoder = made(rng, MetaPathGCN, 4, 2, 0.0, "row")
    (first, a), (second, b) = op_of(rng), op_of(rng)
    x = torch.randn(6, 4, generator=rng, dtype=torch.float64)
    out = encoder(x, [first, second.select(torch.tensor([4, 1]))])[-1]
    hidden = a @ (x @ encoder.weights[0])
    hidden = torch.where(hidden > 0, hidden, 0.25 * hidden)
    torch.testing.assert_close(out, functional.layer_norm((b @ (hidden @ encoder.weights[1]))[[4, 1]], (4,)))


def test_semantic_attention(rng):
    attention = made(rng, SemanticAttention, 4)
    views = [torch.randn(5, 4, generator=rng, dtype=torch.float64) for _ in range(3)]
    scores = []
    for view in views:
        per_node = torch.tanh(view @ attention.linear.weight.T + attention.linear.bias)
        scores.append((per_node.mean(0) @ attention.vector[0]).item())
    shares = np.exp(scores) / np.exp(scores).sum()
    expected = sum(float(s) * v for s, v in zip(shares, views, strict=True))
    torch.testing.assert_close(attention(views), expected)
    torch.testing.assert_close(attention([views[0]]), views[0])


def test_projection_of_features_tables_and_some_rows(rng):
    sparse_x = sparse.random(5, 7, 0.5, format="csr", random_state=0)
    projection = made(rng, Projection, {"A": 7, "B": 3}, 4)
    op = Sparse.from_scipy(sparse_x, dtype=torch.float64)
    dense = torch.from_numpy(sparse_x.toarray())
    expected = functional.elu(dense @ projection.weights[parameter_key("A")] + projection.biases[parameter_key("A")])
    rows = torch.tensor([3, 0])
    for x in (op, dense):
        torch.testing.assert_close(projection("A", x), expected)
        torch.testing.assert_close(projection("A", x, rows=rows), expected[rows])
    identity = functional.elu(
        torch.eye(3, dtype=torch.float64) @ projection.weights[parameter_key("B")] + projection.biases[parameter_key("B")]
    )
    torch.testing.assert_close(projection("B", None), identity)
    torch.testing.assert_close(projection("B", None, rows=torch.tensor([2])), identity[[2]])


def test_projection_drops_in_training_alone(rng):
    projection = made(rng, Projection, {"A": 7}, 64, 0.5, "xavier")
    x = torch.ones(9, 7, dtype=torch.float64)
    with borrowed(rng):
        assert float((projection("A", x) == 0).double().mean()) == pytest.approx(0.5, abs=0.1)
    assert (projection("A", x, drops=False) != 0).all()
    projection.eval()
    assert (projection("A", x) != 0).all()
    assert not projection.biases[parameter_key("A")].any()
    with pytest.raises(ValueError, match="init"):
        Projection({"A": 2}, 2, init="zeros")
    with pytest.raises(ValueError, match="dropout"):
        Projection({"A": 2}, 2, 1.0)


@pytest.mark.parametrize("name", ["items", "values", "type", "a.b", "a%2Eb", "weights", ""])
def test_a_type_may_have_any_name(rng, name):
    """PyTorch keeps parameters as attributes, of which it has some already."""
    x = torch.ones(2, 3, dtype=torch.float64)
    assert made(rng, Projection, {name: 3, "a.b.c": 3}, 4)(name, x).shape == (2, 4)
    neighbours = torch.zeros(2, 1, dtype=torch.int64)
    assert made(rng, SchemaEncoder, (name, "a.b.c"), 3)(
        x, {name: x, "a.b.c": x}, {name: neighbours, "a.b.c": neighbours}
    ).shape == (2, 3)


def test_schema_encoder(rng):
    encoder = made(rng, SchemaEncoder, ("A", "B"), 4)
    own = torch.randn(3, 4, generator=rng, dtype=torch.float64)
    tables = {
        "A": torch.randn(5, 4, generator=rng, dtype=torch.float64),
        "B": torch.randn(2, 4, generator=rng, dtype=torch.float64),
    }
    neighbours = {"A": torch.tensor([[0, 0, 4], [1, -1, 3], [-1, -1, -1]]), "B": torch.tensor([[0], [1], [1]])}
    views = []
    for name, table in tables.items():
        vector, rows = encoder.vectors[parameter_key(name)][0], []
        for i, drawn in enumerate([j for j in row if j >= 0] for row in neighbours[name].tolist()):
            if not drawn:
                rows.append(torch.zeros(4, dtype=torch.float64))
                continue
            e = torch.stack([functional.leaky_relu(vector @ torch.cat([own[i], table[j]]), 0.01) for j in drawn])
            rows.append(
                functional.elu(sum(a * table[j] for a, j in zip(e.softmax(0), drawn, strict=True)))
            )  # a repeat counts twice
        views.append(torch.stack(rows))
    own.requires_grad_()
    found = encoder(own, tables, neighbours)
    torch.testing.assert_close(found, encoder.attention(views))
    assert torch.autograd.grad(found.sum(), own)[0].isfinite().all()


def test_dropout_of_attention_is_of_its_vectors(rng, monkeypatch):
    """By a dropout that multiplies alone."""
    monkeypatch.setattr(functional, "dropout", lambda x, share, training: (1 + share) * x if training else x)
    encoder = made(rng, SchemaEncoder, ("A", "B"), 4, 0.5)
    own, table = (torch.randn(3, 4, generator=rng, dtype=torch.float64) for _ in range(2))
    drawn = {"A": torch.tensor([[0, 1], [1, 2], [2, 0]]), "B": torch.tensor([[0, 2], [0, 1], [1, 1]])}
    dropped = encoder(own, dict.fromkeys("AB", table), drawn)
    with torch.no_grad():
        for vector in (*encoder.vectors.values(), encoder.attention.vector):
            vector.mul_(1.5)
    torch.testing.assert_close(encoder.eval()(own, dict.fromkeys("AB", table), drawn), dropped)
