"""Barlow Twins: the views' columns correlate with themselves and with nothing else."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from graphcl.contracts import Pair
from graphcl.objectives.rows import positive_keys, row_shares
from graphcl.ops import unit_rows


@dataclass(frozen=True)
class BarlowTwins:
    """``sum_i (1 - C_ii)^2 + off_diagonal sum_{i != j} C_ij^2``, C [d, d] the correlations of queries' and positives' columns.

    ``off_diagonal``: lambda; None is 1/d, for the release's 0.0051 is for projectors of width 8192. No negatives; O(n d^2) time, O(d^2)
    memory. A column whose standard deviation is below ``eps`` is constant: its correlations are 0, without a gradient.
    ``pair.weights`` count a row that often.

    Raises:
        ValueError: a setting outside its range; sparse positives or fewer than two rows, at the call.

    Source: Zbontar et al., ICML 2021; facebookresearch/barlowtwins, main.py; 1/d: Graph Barlow Twins.
    Departs: the release adds 1e-5 to variances, which small embeddings do not pass; PyGCL divides unbiased deviations by n.
    """

    off_diagonal: float | None = None
    eps: float = 1e-6

    def __post_init__(self) -> None:
        if self.off_diagonal is not None and not self.off_diagonal >= 0:
            raise ValueError(f"off_diagonal must be 0 or more, or None for 1/d, got {self.off_diagonal}")
        if not self.eps > 0:
            raise ValueError(f"eps must be above 0, got {self.eps}")

    def __call__(self, pair: Pair) -> Tensor:
        keys, shares = positive_keys(pair, "BarlowTwins"), row_shares(pair)
        if len(keys) < 2:
            raise ValueError(f"BarlowTwins needs at least two rows, got {len(keys)}")
        ours, theirs = (self._standard(x, shares) for x in (pair.query, keys))
        correlations = ours @ theirs.T
        own = correlations.diagonal()
        weight = 1 / len(own) if self.off_diagonal is None else self.off_diagonal
        return (1 - own).square().sum() + weight * (correlations.square().sum() - own.square().sum())

    def _standard(self, x: Tensor, shares: Tensor) -> Tensor:  # [d, n]
        """Columns as rows of length one, which was their biased standard deviation."""
        return unit_rows(((x - shares @ x) * shares.sqrt()[:, None]).T, self.eps)
