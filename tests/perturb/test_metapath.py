"""Meta-path graphs as operators and their masks."""

import numpy as np
import pytest
import torch
from scipy import sparse

from graphcl.perturb.metapath import mask_edges, mask_features


def test_masked_edges_leave_the_diagonal_and_a_share():
    graph = sparse.random(30, 30, 0.4, format="csr", random_state=0)
    graph.setdiag(7)
    off = graph.nnz - 30
    masked = mask_edges(graph, 0.3, torch.Generator().manual_seed(1)).toarray()
    np.testing.assert_array_equal(np.diag(masked), 1)
    assert set(np.unique(masked)) == {0, 1}
    assert masked.sum() - 30 == off - int(0.3 * off + 1e-6)
    assert not (masked - np.eye(30))[graph.toarray() == 0].any()
    again = mask_edges(graph, 0.3, torch.Generator().manual_seed(1)).toarray()
    np.testing.assert_array_equal(masked, again)
    assert (masked != mask_edges(graph, 0.3, torch.Generator().manual_seed(2)).toarray()).any()


def test_masked_features_keep_their_values():
    x = sparse.random(20, 50, 0.2, format="csr", random_state=0)
    masked = mask_features(x, 0.25, torch.Generator().manual_seed(0))
    assert masked.nnz == x.nnz - x.nnz // 4
    kept = masked.toarray() != 0
    np.testing.assert_array_equal(masked.toarray()[kept], x.toarray()[kept])
    assert (mask_features(x, 0.0, torch.Generator()).toarray() == x.toarray()).all()


@pytest.mark.parametrize("mask", [mask_edges, mask_features])
def test_a_share_lies_below_one(mask):
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\), got 1"):
        mask(sparse.eye(4, format="csr"), 1.0, torch.Generator())


def test_a_dense_table_is_masked_too():
    x = sparse.random(20, 50, 0.2, format="csr", random_state=0)
    table = torch.from_numpy(x.toarray())
    masked = mask_features(table, 0.25, torch.Generator().manual_seed(0))
    assert torch.equal(masked, torch.from_numpy(mask_features(x, 0.25, torch.Generator().manual_seed(0)).toarray()))
