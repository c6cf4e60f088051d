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


def dense_filters(x: np.ndarray, factors: int) -> tuple[np.ndarray, np.ndarray]:
    """GF-CF's two filters: R~^T R~, and the low pass of so many factors."""

    def power(degree: np.ndarray, exponent: float) -> np.ndarray:
        return np.diag([d**exponent if d > 0 else 0.0 for d in degree])

    normal = power(x.sum(1), -0.5) @ x @ power(x.sum(0), -0.5)
    _, values, vectors = np.linalg.svd(normal)
    v = vectors[: min(factors, int((values > 1e-9).sum()))].T
    return normal.T @ normal, power(x.sum(0), -0.5) @ v @ v.T @ power(x.sum(0), 0.5)
