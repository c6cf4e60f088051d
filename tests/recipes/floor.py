"""A log that the tests of the floor share."""

import numpy as np

from graphcl.interactions import Interactions, Vocabulary


def random_log(seed: int = 0, num_users: int = 40, num_items: int = 30) -> Interactions:
    """User 7 and item 11 have nothing; one row stands twice."""
    dense = np.random.default_rng(seed).random((num_users, num_items)) < 0.2
    dense[7], dense[:, 11] = False, False
    users, items = (x.astype(np.int32) for x in dense.nonzero())
    users, items = np.append(users, users[0]), np.append(items, items[0])
    return Interactions(users, items, Vocabulary(np.arange(num_users)), Vocabulary(np.arange(num_items)))
