"""The floor on attributed graphs, against the formula."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch

from graphcl.planted import planted_attributed
from graphcl.recipes import svd_kmeans
from graphcl.recipes.svd_kmeans import Config
from graphcl.testing import check_recipe


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("dense", [True, False])
def test_the_embedding_is_the_formula(unit, dense):
    """Up to the signs of the components: all products of rows are the same."""
    data = planted_attributed()
    x, adj = data.x.toarray().astype(np.float64), data.graph.adj.to_scipy().toarray() + np.eye(48)
    if dense:
        data = dataclasses.replace(data, x=torch.from_numpy(data.x.toarray()))
    u, s, _ = np.linalg.svd(x / np.linalg.norm(x, axis=1, keepdims=True), full_matrices=False)
    h = u[:, :5] * s[:5]
    hop = adj / np.sqrt(np.outer(adj.sum(1), adj.sum(1)))
    for _ in range(3):
        h = hop @ h
    if unit:
        h = h / np.linalg.norm(h, axis=1, keepdims=True)
    found = svd_kmeans.embed(Config(dim=5, num_hops=3, unit=unit), data, rng=torch.Generator()).double().numpy()
    np.testing.assert_allclose(found @ found.T, h @ h.T, atol=1e-5)


def test_it_finds_the_planted_classes():
    assert check_recipe(svd_kmeans, least=0.9) > 0.9


def test_few_columns_and_bad_settings():
    data = planted_attributed()
    assert svd_kmeans.embed(Config(dim=500), data, rng=torch.Generator()).shape == (48, 30)
    one = replace(data, x=data.x[:, :1])
    assert svd_kmeans.embed(Config(), one, rng=torch.Generator()).shape == (48, 1)
    for settings, says in (
        ({"num_hops": -1}, "num_hops must be 0 or more, got -1"),
        ({"dim": 0}, "dim must be 1 or more, got 0"),
    ):
        with pytest.raises(ValueError, match=says):
            svd_kmeans.embed(Config(**settings), data, rng=torch.Generator())
