"""What items mean, from their attributes: the matrix that `graphcl train sracl --set item_embeddings=FILE.npy` takes.

python examples/item_semantics.py ATTRIBUTES.json[.gz] OUT.npy [WIDTH]

The JSON maps each item's id to a list of attributes, {"1": [4, 17], "2": [17, 30], ...}: the format of RUCAIBox/CIKM2020-S3Rec's
`*_item2attributes.json`, whose ids are those of the data sets `mclrec_*`. Every item of the data set has to be a key.
"""

import gzip
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfTransformer


def attributes(path: str | Path) -> dict[str, list]:
    """Of each item by its id."""
    path = Path(path)
    content = path.read_bytes()
    found = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
    if not isinstance(found, dict) or not all(isinstance(values, list) for values in found.values()):
        raise ValueError(f"{path} must map item ids to lists of attributes")
    return found


def semantics(items: Mapping[str, list], width: int = 64) -> np.ndarray:  # [I, width] float32
    """Multi-hot, TF-IDF, truncated SVD; rows by ascending id, as whole numbers where all ids are (and none begins with a zero). An
    item without attributes is zero."""
    numbers = all(item.isdecimal() and str(int(item)) == item for item in items)  # 007 is a text, as in a log
    ids = sorted(items, key=int) if numbers else sorted(items)
    known = {
        name: column for column, name in enumerate(sorted({value for values in items.values() for value in values}, key=str))
    }
    rows = np.repeat(np.arange(len(ids)), [len(items[item]) for item in ids])
    columns = np.array([known[value] for item in ids for value in items[item]], dtype=np.int64)
    counts = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(ids), len(known)))
    weighted = TfidfTransformer().fit_transform(counts > 0)
    if not 1 <= width < min(weighted.shape):
        raise ValueError(f"width must lie between 1 and {min(weighted.shape) - 1}, got {width}")
    return TruncatedSVD(width, random_state=0).fit_transform(weighted).astype(np.float32)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    matrix = semantics(attributes(sys.argv[1]), *map(int, sys.argv[3:]))
    np.save(sys.argv[2], matrix)
    print(f"{len(matrix)} items, width {matrix.shape[1]}")
