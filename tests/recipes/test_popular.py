"""Popularity against a count."""

import numpy as np
import torch
from scipy import sparse

from graphcl.interactions import Interactions, Vocabulary
from graphcl.rank import top_k
from graphcl.recipes import popular


def small() -> Interactions:
    """Six users, five items: user 2 and item 3 have nothing, one row stands twice."""
    users = np.array([0, 0, 1, 1, 1, 3, 4, 4, 5, 0], dtype=np.int32)
    items = np.array([0, 1, 0, 1, 4, 0, 4, 2, 1, 1], dtype=np.int32)
    return Interactions(users, items, Vocabulary(np.arange(6)), Vocabulary(np.arange(5)))


def test_scores_are_degrees_without_repeats():
    scorer = popular.build(popular.Config(), small())
    got = scorer.score(torch.tensor([2, 0]))
    assert got.dtype == torch.float32
    assert got.tolist() == [[3, 3, 1, 0, 2]] * 2
    assert scorer.score(sparse.csr_matrix((3, 5))).tolist() == [[3, 3, 1, 0, 2]] * 3


def test_ranks_the_most_popular_unseen_item_first():
    data = small()
    items, _ = top_k(popular.build(popular.Config(), data), torch.tensor([0, 2, 3]), 2, seen=data.matrix)
    assert items.tolist() == [[4, 2], [0, 1], [1, 4]]


def test_round_trip():
    scorer = popular.build(popular.Config(), small())
    back = popular.restore(popular.Config(), small(), scorer.state())
    torch.testing.assert_close(back.score(torch.arange(6)), scorer.score(torch.arange(6)), rtol=0, atol=0)
