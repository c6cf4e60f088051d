"""A small log with structure: three groups of users, three blocks of items."""

from pathlib import Path

import numpy as np
import pandas as pd

NUM_USERS, NUM_ITEMS, EACH = 24, 30, 8


def toy_frame(seed: int = 0) -> pd.DataFrame:
    """Text user ids (`007`), text item ids, times. Each user has seven items of the own block and one of another."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(NUM_USERS):
        block = user % 3
        own = rng.choice(10, size=EACH - 1, replace=False) + 10 * block
        other = rng.integers(10) + 10 * ((block + 1) % 3)
        for place, item in enumerate(rng.permutation([*own, other])):
            rows.append((f"{user + 1:03d}", f"i{item:02d}", 1000 * place + user))
    return pd.DataFrame(rows, columns=["user", "item", "timestamp"])


def toy_csv(path: Path, seed: int = 0) -> Path:
    toy_frame(seed).to_csv(path, index=False)
    return path
