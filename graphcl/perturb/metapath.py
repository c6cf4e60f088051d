"""Meta-path graphs as operators, whole and with some of their edges and features left out."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphcl.ops import Sparse, draw_key, uniform
from graphcl.perturb.edges import check_fraction, part_of

_Features = TypeVar("_Features", sparse.csr_matrix, Tensor)


def convolution(graph: sparse.csr_matrix) -> Sparse:  # [N, N]
    """``D^-1/2 A^T D^-1/2`` with D the row sums of A: a node gathers from those whose lists hold it. Nodes without edges get zero.

    For a symmetric A it is the usual normalisation.

    Source: jianxiangyu/MEOW@6a072d7, whose expression comes to this.
    """
    sums = np.asarray(graph.sum(axis=1), dtype=np.float64).ravel()
    scale = torch.from_numpy(np.where(sums > 0, np.maximum(sums, 1e-300) ** -0.5, 0.0)).float()
    turned = Sparse.from_scipy(graph.T.tocsr().astype(np.float32))
    return turned.scaled(scale, scale)


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
    draws = uniform(draw_key(rng), torch.arange(count))[:, 0].numpy()
    keep = np.ones(count, dtype=bool)
    keep[np.argsort(draws, kind="stable")[: part_of(fraction, count)]] = False
    return keep
