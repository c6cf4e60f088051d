"""Meta-path contexts against the formula written out."""

import torch
from scipy import sparse
from torch.nn import functional

from graphcl.ops import Sparse
from graphcl.streams import borrowed
from graphcl.views.metapath import MetaPathContexts


def test_contexts_are_mapped_added_and_activated():
    rng = torch.Generator().manual_seed(0)
    with borrowed(rng):
        view = MetaPathContexts([1, 2], 4).double()
    assert [len(maps) for maps in view.maps] == [1, 2]
    own = torch.randn(3, 4, generator=rng, dtype=torch.float64)
    means, tables = [], []
    for size in (5, 2):
        dense = (torch.rand(3, size, generator=rng) < 0.6).double()
        dense = dense / dense.sum(1, keepdim=True).clamp_min(1)
        means.append((Sparse.from_scipy(sparse.csr_matrix(dense.numpy()), dtype=torch.float64), dense))
        tables.append(torch.randn(size, 4, generator=rng, dtype=torch.float64))
    expected = functional.elu(own + sum(d @ t @ m.weight.T for (_, d), t, m in zip(means, tables, view.maps[1], strict=True)))
    content = view.content(1, [(op, table) for (op, _), table in zip(means, tables, strict=True)])
    torch.testing.assert_close(view(own, content), expected)


def test_dropout_is_off_in_evaluation():
    rng = torch.Generator().manual_seed(0)
    with borrowed(rng):
        view = MetaPathContexts([1], 64, dropout=0.5)
    pair = (Sparse.from_scipy(sparse.identity(3, format="csr")), torch.randn(3, 64, generator=rng))
    with borrowed(rng):
        dropped = view.content(0, [pair])
    assert 0.3 < float((dropped == 0).float().mean()) < 0.7
    view.eval()
    assert (view.content(0, [pair]) != 0).all()
