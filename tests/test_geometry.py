"""How embeddings lie, pair by pair in float64."""

import math
import time

import numpy as np
import pytest
import torch
from scipy import sparse

from graphcl import geometry
from tests.objectives.dense import table


def rows(n, d, seed, scale=1.0):
    return table(n, d, seed, scale).detach()


def unit(x):
    return [r / r.norm() if r.norm() > 0 else r for r in x]


def slow_uniformity(x):
    x = unit(x)
    near = [math.exp(-2 * (x[i] - x[j]).square().sum()) for i in range(len(x)) for j in range(i)]
    return math.log(sum(near) / len(near))


def slow_rank(x):
    values = np.linalg.svd(x.numpy(), compute_uv=False)
    share = values / values.sum()
    return np.exp(-(share * np.log(share)).sum())


def test_tolerance_is_over_pairs_of_one_class():
    x, labels = rows(9, 4, 0), torch.tensor([2, 0, -1, 2, 0, 5, 2, -1, 0])
    x[3] = 0
    u = unit(x)
    pairs = [(i, j) for i in range(9) for j in range(i) if labels[i] == labels[j] >= 0]
    assert len(pairs) == 6
    assert geometry.tolerance(x, labels) == pytest.approx(float(sum(u[i] @ u[j] for i, j in pairs)) / 6, rel=1e-12)
    assert geometry.tolerance(x[:1].expand(4, 4), torch.zeros(4, dtype=torch.int64)) == pytest.approx(1)
    assert math.isnan(geometry.tolerance(x[:3], labels[:3]))  # no two of a class; the -1 are none


@pytest.mark.parametrize("shape", [(9, 4), (3, 6), (5, 5)])
def test_effective_rank(shape):
    x = rows(*shape, 1)
    assert geometry.effective_rank(x) == pytest.approx(slow_rank(x), rel=1e-6)


def test_effective_rank_by_hand():
    assert geometry.effective_rank(3 * torch.eye(5)) == pytest.approx(5)
    assert geometry.effective_rank(torch.ones(7, 3)) == pytest.approx(1, abs=1e-12)  # collapse; rounding is no direction
    assert geometry.effective_rank(torch.zeros(4, 3)) == 0
    p = 3 / 4  # singular values 3 and 1
    expected = math.exp(-p * math.log(p) - (1 - p) * math.log(1 - p))
    assert geometry.effective_rank(torch.tensor([[0.0, 3.0], [1.0, 0.0]])) == pytest.approx(expected)


def test_of_pairs(monkeypatch):
    """A user of length zero is at distance 1 of every item. Copies are made of two rows at a time."""
    monkeypatch.setattr(geometry, "_BLOCK", 2)
    users, items = rows(5, 3, 2), rows(4, 3, 3, 10)
    users[1] = 0
    log = sparse.csr_matrix((np.ones(4), ([0, 0, 1, 4], [0, 2, 3, 2])), shape=(5, 4))
    found = geometry.of_pairs(users, items, log)
    u, i = unit(users), unit(items)
    apart = [float((u[a] - i[b]).square().sum()) for a, b in ((0, 0), (0, 2), (1, 3), (4, 2))]
    assert found == pytest.approx(
        {
            "alignment": sum(apart) / 4, "uniformity_user": slow_uniformity(users), "uniformity_item": slow_uniformity(items),
            "effective_rank": slow_rank(torch.cat([users, items])),
        }
    )  # fmt: skip
    assert geometry.of_pairs(users[:1], items, sparse.csr_matrix((1, 4))).keys() == {"uniformity_item", "effective_rank"}


def test_of_nodes():
    x = rows(6, 3, 4)
    found = geometry.of_nodes(x, torch.tensor([0, 1, -1, 0, 1, 0]))
    assert found.keys() == {"uniformity", "effective_rank", "tolerance"}
    assert found["uniformity"] == pytest.approx(slow_uniformity(x))
    assert geometry.of_nodes(x, torch.arange(6)).keys() == {"uniformity", "effective_rank"}
    assert geometry.of_nodes(x[:1], torch.tensor([0])) == {"effective_rank": pytest.approx(1)}


def test_a_large_table_is_sampled_evenly_and_the_same_again(monkeypatch):
    """Half of the rows, in front, are one point: a sample from the front would say 0."""
    x = torch.cat([torch.ones(3000, 8), rows(3000, 8, 5).float()])
    whole = geometry.of_nodes(x, torch.zeros(6000, dtype=torch.int64))["uniformity"]
    monkeypatch.setattr(geometry, "SAMPLE", 2000)
    state = torch.get_rng_state()
    found = [geometry.of_nodes(x, torch.zeros(6000, dtype=torch.int64))["uniformity"] for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), state)
    assert found[0] == found[1] != whole
    assert found[0] == pytest.approx(whole, abs=0.05)


def test_it_costs_little():
    """70,000 rows of width 64 and a million pairs took .24 s on one core; all pairs of rows would take ten times the bound."""
    users, items = rows(30_000, 64, 6).float(), rows(40_000, 64, 7).float()
    cells = np.unique(np.random.default_rng(0).integers(0, 30_000 * 40_000, 1_000_000))
    log = sparse.csr_matrix((np.ones(len(cells), np.float32), np.divmod(cells, 40_000)), shape=(30_000, 40_000))
    geometry.of_pairs(users[:10], items[:10], log[:10, :10])  # kernels are compiled
    began = time.process_time()
    geometry.of_pairs(users, items, log)
    assert time.process_time() - began < 4
