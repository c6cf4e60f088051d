import hashlib

import numpy as np
import pandas as pd

from graphcl.data.fingerprint import of_split
from graphcl.data.split import Split
from graphcl.interactions import Interactions, Vocabulary


def test_a_split_is_hashed_as_whole_columns_of_int64():
    """Runs keep the digest, so it may never change; columns here are longer than the pieces that are hashed."""
    drawn = np.random.default_rng(0)
    ids = Vocabulary(np.arange(50)), Vocabulary(np.array([f"i{i}" for i in range(70)], dtype=object))
    train, test = (
        Interactions(drawn.integers(0, 50, n).astype(np.int32), drawn.integers(0, 70, n).astype(np.int32), *ids)
        for n in (300_000, 7)
    )
    digest = hashlib.sha256()
    for name, part in (("train", train), ("test", test)):
        digest.update(name.encode() + part.users.astype(np.int64).tobytes() + part.items.astype(np.int64).tobytes())
    for vocabulary in ids:
        digest.update(pd.util.hash_array(vocabulary.ids).tobytes())
    assert of_split(Split("toy", train, None, test, "files", 0)) == digest.hexdigest()
