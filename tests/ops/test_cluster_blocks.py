"""Anchors against the keys of some clusters, as autograd has it."""

import pytest
import torch

from graphcl.ops import ClusterBlocks

MEMBERS = torch.tensor([4, 0, 2, 1, 5, 3, 6])  # keys by cluster: {4, 0, 2}, {1}, {5, 3, 6}
LIMITS = torch.tensor([[0, 3], [4, 7]])  # the second cluster is met by nobody
ROWS, SPANS = torch.tensor([1, 0, 3, 1]), torch.tensor([0, 2, 4])  # anchor 1 meets both, anchor 2 none


def table(n, seed, dtype):
    found = torch.randn(n, 5, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    found[0] *= seed != 1  # key 0 is zero
    return found.requires_grad_()


def dense(query, keys, temperature, normalise, bias, banned):
    length = keys.norm(dim=1, keepdim=True)
    used = torch.where(length > 0, keys / torch.where(length > 0, length, 1.0), 0.0) if normalise else keys
    found = []
    for pair, row in enumerate(ROWS.tolist()):
        first, last = LIMITS[int(SPANS[1] <= pair)].tolist()
        terms = [
            used[MEMBERS[j]] @ query[row] / temperature + bias[MEMBERS[j]] for j in range(first, last) if (pair, j) not in banned
        ]
        found.append(torch.stack(terms).logsumexp(0) if terms else torch.tensor(-torch.inf, dtype=query.dtype))
    return torch.stack(found)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("banned", [[], [(0, 1), (2, 4), (2, 5), (2, 6), (3, 5)]])  # all of pair 2's
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_value_and_gradient(normalise, banned, dtype):
    query, keys, t = table(4, 0, dtype), table(7, 1, dtype), 0.4
    bias = torch.tensor([0.5, 0, -1, -torch.inf, 2, 0, 0.3], dtype=dtype) if banned else torch.zeros(7, dtype=dtype)
    entries = tuple(torch.tensor(each) for each in zip(*banned, strict=True)) if banned else None
    blocks = ClusterBlocks(ROWS, SPANS, MEMBERS, LIMITS, bias if banned else None, entries)
    lse, expected = blocks.log_sum_exp(query, keys, t, normalise), dense(query, keys, t, normalise, bias, banned)
    exact = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {}
    torch.testing.assert_close(lse, expected.detach(), **exact)
    grad = torch.tensor([1.0, -2, 0.5, 3], dtype=dtype)
    finite = expected > -torch.inf
    slow = torch.autograd.grad(expected[finite] @ grad[finite], (query, keys))
    before = [torch.full_like(each, 2.0).detach() for each in (query, keys)]
    near, far = (each.clone() for each in before)
    blocks.add_gradients(query, keys, t, normalise, lse, grad, near, far)
    for moved, was, by_autograd in zip((near, far), before, slow, strict=True):
        torch.testing.assert_close(
            moved - was, by_autograd, **({"rtol": 1e-10, "atol": 1e-12} if exact else {"rtol": 1e-4, "atol": 1e-5})
        )
