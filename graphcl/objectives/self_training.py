"""DEC's self-training: soft clusters pulled towards their own sharpened form."""

from __future__ import annotations

import torch
from torch import Tensor


def soft_clusters(z: Tensor, centres: Tensor) -> Tensor:  # [N, d], [K, d] -> [N, K]
    """Student's t with one degree of freedom: ``q_ik`` in proportion to ``1 / (1 + |z_i - m_k|^2)``, rows sum to 1."""
    squared = z.square().sum(1, keepdim=True) + centres.square().sum(1) - 2 * z @ centres.T
    q = 1 / (1 + squared.clamp_min(0))
    return q / q.sum(1, keepdim=True)


def target(q: Tensor) -> Tensor:  # [N, K] -> [N, K]
    """``q_ik^2 / sum_i q_ik``, rows brought to sum 1; a constant. Clusters of equal sizes are preferred."""
    q = q.detach()
    weight = q.square() / q.sum(0).clamp_min(torch.finfo(q.dtype).tiny)
    return weight / weight.sum(1, keepdim=True)


def self_training(q: Tensor) -> Tensor:  # [N, K] -> scalar
    """``mean_i sum_k p_ik log(p_ik / q_ik)`` with ``p = target(q)``.

    Source: DEC, Xie et al., ICML 2016; as in bdy9527/SDCN@da6bb00.
    """
    p = target(q)
    tiny = torch.finfo(q.dtype).tiny
    return (p * (p.clamp_min(tiny).log() - q.clamp_min(tiny).log())).sum(1).mean()
