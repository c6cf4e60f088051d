"""Top-k from tiles against a stable sort of everything."""

import numpy as np
import pytest
from scipy import sparse

from graphcl.ops.selection import Selection

USERS, ITEMS = 75, 130  # two whole groups of users and a part


def best_by_sort(scores, seen, k):
    left = np.where(seen, -np.inf, scores)
    items = np.argsort(-left, axis=1, kind="stable")[:, :k]
    values = np.take_along_axis(left, items, axis=1)
    return np.where(np.isneginf(values), -1, items), values


def select(scores, seen, owners, k, width):
    pattern = sparse.csr_matrix(seen)
    found = Selection(owners, k, pattern.indptr.astype(np.int64), pattern.indices.astype(np.int32))
    for first in range(0, scores.shape[1], width):
        found.add(first, np.ascontiguousarray(scores[:, first : first + width].T))
    return found, found.finish()


@pytest.mark.parametrize("width", [1, 13, 64, ITEMS])
@pytest.mark.parametrize("k", [1, 9, ITEMS])
@pytest.mark.parametrize("ties", [True, False])
def test_equals_a_stable_sort(width, k, ties):
    rng = np.random.default_rng(0)
    scores = rng.integers(-3, 4, (USERS, ITEMS)) if ties else rng.normal(size=(USERS, ITEMS))
    scores = scores.astype(np.float32)
    scores[3] = -np.inf
    seen = rng.random((USERS + 5, ITEMS)) < 0.2
    seen[7] = True
    owners = rng.permutation(USERS + 5)[:USERS]
    _, (items, best) = select(scores, seen, owners, k, width)
    want_items, want_best = best_by_sort(scores, seen[owners], k)
    np.testing.assert_array_equal(items, want_items)
    np.testing.assert_array_equal(best, want_best)


@pytest.mark.parametrize("user", [0, 40, USERS - 1])
def test_nan_is_told_of_with_its_item(user):
    """Also where every floor is above what the group holds, and only NaN is not below it."""
    scores = np.tile(np.arange(ITEMS, 0, -1, dtype=np.float32), (USERS, 1))
    scores[user, 100] = np.nan
    found, _ = select(scores, np.zeros((USERS, ITEMS)), np.arange(USERS), 5, 64)
    assert found.broken[user] == 100
    assert (np.delete(found.broken, user) == -1).all()
