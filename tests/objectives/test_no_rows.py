"""A batch without rows, or with none that counts: a loss of 0 whose gradients are 0, as a filter in front of a loss may leave."""

import pytest
import torch
from torch.testing import assert_close

from graphcl.contracts import Pair, Table
from graphcl.objectives import (
    BSL,
    CCL,
    DCL,
    DHEL,
    JSD,
    AllKeys,
    BarlowTwins,
    ClusterMeans,
    Clusters,
    ClusterSampled,
    ClusterState,
    InfoNCE,
    NTXent,
    VICReg,
    WeightedInfoNCE,
)
from tests.objectives.dense import table

STATE = ClusterState({"node": 7}, given={"node": torch.arange(7) % 3})
OBJECTIVES = {
    "infonce": InfoNCE(0.2),
    "infonce of all keys": InfoNCE(0.2, negatives=AllKeys()),
    "dcl": DCL(),
    "dclw": DCL(sigma=0.5),
    "dhel": DHEL(),
    "bsl": BSL(0.2),
    "weighted": WeightedInfoNCE(0.2, "none"),
    "ntxent": NTXent(0.2),
    "infonce of probed clusters": InfoNCE(0.2, negatives=Clusters(STATE, probe=1)),
    "infonce of keys by cluster": InfoNCE(0.2, negatives=ClusterSampled(STATE, 2, rng=torch.Generator())),
    "cluster means": lambda pair: ClusterMeans(0.2)(pair, torch.arange(7)[:, None] % 3),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_rows(name):
    query, key = table(0, 4, 0), table(7, 4, 1)
    loss = OBJECTIVES[name](Pair(query, Table(key), torch.empty(0, dtype=torch.int64)))
    assert loss.item() == 0
    loss.backward()
    assert key.grad is None or not key.grad.any()


@pytest.mark.parametrize("objective", [InfoNCE(0.2), DCL(), DCL(sigma=0.5), DHEL(), BSL(0.2), NTXent(0.2), BarlowTwins()])
def test_no_row_that_counts(objective):
    query, key = table(3, 4, 0), table(7, 4, 1)
    loss = objective(Pair(query, Table(key), torch.tensor([4, 0, 6]), weights=torch.zeros(3)))
    assert loss.isfinite()
    assert all(not grad.any() for grad in torch.autograd.grad(loss, (query, key), allow_unused=True) if grad is not None)


def test_a_row_that_does_not_count_may_be_the_closest():
    """Its pull may overflow, but it is multiplied by 0."""
    query, key = table(3, 4, 0), table(3, 4, 1)
    with torch.no_grad():
        key[0] = query[0]
    loss = DCL(sigma=0.01)(Pair(query, Table(key), torch.arange(3), weights=torch.tensor([0.0, 1.0, 1.0])))
    assert loss.isfinite()


def test_an_unknown_id_is_no_key():
    """-1, which stands for it elsewhere, once was the last key."""
    with pytest.raises(IndexError, match="keys are numbered from 0, got -1"):
        InfoNCE(0.2)(Pair(torch.randn(2, 3), Table(torch.randn(4, 3)), torch.tensor([0, -1])))


@pytest.mark.parametrize("objective", [InfoNCE(0.2), DCL(), DHEL(), BSL(0.2), CCL(), JSD(), NTXent(0.2), BarlowTwins(), VICReg()])
def test_half_precision_holds_a_sum_of_weights(objective):
    """It ends at 65,504: losses were NaN, or a constant."""
    query, key = table(64, 4, 0).half(), table(64, 4, 1).half()
    weights = torch.full((64,), 2000.0)
    pairs = [Pair(q, Table(k), torch.arange(64), weights=weights) for q, k in ((query, key), (query.float(), key.float()))]
    assert_close(objective(pairs[0]).float(), objective(pairs[1]), rtol=0.02, atol=0.02)
