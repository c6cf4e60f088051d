"""LightGCL as released: each layer relayed through a truncated SVD, contrasted with all nodes by dot products.

Paper: Cai et al., "LightGCL: Simple Yet Effective Graph Contrastive Learning for Recommendation", ICLR 2023.
Checked against: HKUDS/LightGCL@5590453 (``main.py``, ``model.py``), whose loss, normalisation and readout differ from the paper's;
``lightgcl_paper`` is the other one.
Departs: log-sum-exp replaces ``log(sum(exp) + 1e-8)``, which overflows; BPR is softplus; embeddings that are ranked come from the
parameters, not from the last training batch; a batch's repeats are told by counts. With these, and from the same sketch, 20 steps
on Last.fm are the release's (``tests/recipes/test_lightgcl_release.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from graphcl.encoders import LightGCN
from graphcl.encoders.readout import total
from graphcl.graph import Graph, bipartite
from graphcl.interactions import Interactions
from graphcl.objectives import InfoNCE
from graphcl.ops import LowRank, Operator, Sparse, sketched_svd, truncated_svd
from graphcl.perturb.edges import check_fraction, dropout_edges
from graphcl.recipes.denominator import Denominator, strategy
from graphcl.recipes.model import Contrast, Model
from graphcl.recipes.ranking import Ranking
from graphcl.recipes.settings import Training, check_known, sizes
from graphcl.views import Relayed

KIND = "general"
SVDKind = Literal["sketch", "exact"]
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Config(Training, Denominator):
    num_layers: int = 2
    rank: int = 5  # q
    svd: SVDKind = "sketch"  # randomised, as released, with the seed; or exact
    weight: float = 0.2  # lambda1
    temperature: float = 0.2  # tau
    clamp: float = 5.0  # bound of the positive's logit
    decay: float = 1e-7  # lambda2, on all parameters
    dropout: float = 0.0  # of the graph's entries
    batch_size: int = 4096


PRESETS: dict[str, dict] = {}
SPACE: dict[str, tuple | list] = {
    "learning_rate": (5e-4, 1e-2, "log"),
    "num_layers": (1, 3),
    "rank": (3, 50, "log"),
    "weight": (1e-3, 1.0, "log"),
    "temperature": (0.1, 2.0, "log"),
    "decay": (1e-8, 1e-5, "log"),
    "dropout": (0.0, 0.3),
}


def build(config: Config, data: Interactions, *, rng: torch.Generator) -> Model:
    check_known(config, svd=get_args(SVDKind))
    encoder = LightGCN(sizes(data), config.dim, config.num_layers, rng=rng)
    final = total(first=0)
    graph = bipartite(data)
    contrast = Contrast(
        Relayed(svd_view(graph.ops[0], graph.kinds, config.rank, config.svd, rng=rng), final),
        InfoNCE(config.temperature, "dot", strategy(config, graph, config.dim, rng), clamp=config.clamp),
        config.weight,
        rows="all-repeated",
    )
    change = edge_dropout(config.dropout, config.num_layers)
    return Model(encoder, final, Ranking(config.decay, "parameters"), [contrast], change=change)


def edge_dropout(p: float, num_layers: int) -> Callable[[Graph, torch.Generator], Graph] | None:
    """Value dropout of the main pass's graph, anew for every layer and direction."""
    check_fraction(p, "dropout")
    if not p:
        return None
    return lambda graph, rng: dropout_edges(graph, p, num_layers, rng)


def svd_view(
    op: Operator, kinds: Mapping[str, slice], rank: int, how: SVDKind = "exact", *, rng: torch.Generator | None = None
) -> LowRank:
    """The rank-``rank`` SVD of the user-item block of ``op`` [N, N], as an operator over all nodes; "sketch" needs ``rng``.

    Normalised, each connected part of the graph has a singular value of 1, so on a graph of as many parts as ``rank`` the exact one
    knows which part a node is in and nothing else; a warning says so. A sketch mixes many directions.
    """
    users, items = kinds["user"], kinds["item"]
    assert isinstance(op, Sparse)
    block = Sparse.from_scipy(op.to_scipy()[users, items], dtype=op.left.dtype)
    if how == "sketch":
        assert rng is not None
        svd = sketched_svd(block, rank, rng=rng)
    else:
        svd = truncated_svd(block, rank)
        alike = int((svd.s >= svd.s[0] * (1 - 1e-6)).sum())
        if alike > 1:
            _log.warning("the largest singular value comes %d times: the graph falls apart, and the view tells its parts", alike)
    _log.info("SVD view: rank %d, residual %.1e, explained energy %.4f", rank, svd.residual, svd.energy)
    root = svd.s.sqrt()
    u, v = svd.u * root, svd.v * root
    zero_u, zero_v = torch.zeros_like(u), torch.zeros_like(v)
    # [[0, U S V'], [V S U', 0]] of rank 2q
    return LowRank(
        torch.cat([torch.cat([u, zero_u], 1), torch.cat([zero_v, v], 1)]),
        torch.cat([torch.cat([zero_u, u], 1), torch.cat([v, zero_v], 1)]),
    )
