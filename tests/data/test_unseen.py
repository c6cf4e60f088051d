"""Negatives that a user has not had in training."""

import pytest
import torch

from graphcl.data.unseen import Unseen
from graphcl.testing import undisturbed
from tests.histories import generator, histories


def test_every_unseen_item_alike_and_no_other():
    users = torch.tensor([0, 1, 3] * 2000)
    with undisturbed():
        found = Unseen(histories())(users, 2, generator())
    assert found.shape == (6000, 2)
    for user, unseen in ((0, [4, 5, 6]), (1, [0, 1, 3, 5, 6]), (3, [0, 1, 2, 4, 5, 6])):
        counts = found[users == user].flatten().bincount(minlength=7)
        assert counts.nonzero().flatten().tolist() == unseen
        expected = 4000 / len(unseen)
        assert ((counts[unseen] - expected) ** 2 / expected).sum() < 25  # chi square; 21 at one in a thousand for 5 degrees


def test_same_draws_from_the_same_generator():
    unseen = Unseen(histories())
    users = torch.tensor([0, 1, 2, 3])
    assert torch.equal(unseen(users, 3, generator(1)), unseen(users, 3, generator(1)))


def test_a_user_who_has_had_everything():
    with pytest.raises(ValueError, match="user 1 has had every item"):
        Unseen(histories([[0], [0, 1, 2, 1]], 3))
