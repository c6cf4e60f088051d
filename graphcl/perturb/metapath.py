"""Meta-path graphs and features with some of their entries left out."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphcl.ops import draw_key
from graphcl.perturb.edges import check_fraction, part_of, smallest

_Features = TypeVar("_Features", sparse.csr_matrix, Tensor)


def mask_edges(graph: sparse.csr_matrix, fraction: float, rng: torch.Generator) -> sparse.csr_matrix:
    """The pattern of ``graph`` without its diagonal and without a ``fraction`` of the rest, directed; then every node with itself.

    Source: jianxiangyu/MEOW@6a072d7.
    """
    check_fraction(fraction, "a masked fraction")
    pattern = graph.tocoo()
    off = pattern.row != pattern.col
    row, col = pattern.row[off], pattern.col[off]
    keep = _kept(len(row), fraction, rng)
    n = graph.shape[0]
    ends = (np.concatenate([row[keep], np.arange(n)]), np.concatenate([col[keep], np.arange(n)]))
    return sparse.csr_matrix((np.ones(len(ends[0]), dtype=np.float32), ends), shape=graph.shape)


def mask_features(features: _Features, fraction: float, rng: torch.Generator) -> _Features:
    """``features`` with a ``fraction`` of the stored entries left out, of a dense table that of the entries other than 0.

    Source: jianxiangyu/MEOW@6a072d7.
    """
    check_fraction(fraction, "a masked fraction")
    if isinstance(features, Tensor):
        table = mask_features(sparse.csr_matrix(features.cpu().numpy()), fraction, rng)
        return torch.from_numpy(table.toarray()).to(features)
    entries = features.tocoo()
    keep = _kept(entries.nnz, fraction, rng)
    return sparse.csr_matrix((entries.data[keep], (entries.row[keep], entries.col[keep])), shape=features.shape)


def _kept(count: int, fraction: float, rng: torch.Generator) -> np.ndarray:
    """Mask of all but ``floor(fraction count)``."""
    return ~smallest(draw_key(rng), torch.arange(count), part_of(fraction, count)).numpy()
