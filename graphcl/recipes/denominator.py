"""Which negatives a recipe compares with that by its paper takes all keys."""

from __future__ import annotations

import logging
from dataclasses import dataclass, fields
from typing import Literal, get_args

import torch

from graphcl.communities import communities
from graphcl.contracts import Negatives
from graphcl.graph import Graph
from graphcl.objectives import AllKeys, Bank, Clusters, ClusterSampled, ClusterState, InBatch, Sampled
from graphcl.objectives.cluster_sums import Order
from graphcl.recipes.settings import check_known

_log = logging.getLogger(__name__)

Kind = Literal["exact", "batch", "sampled", "clusters", "cluster_sampled", "bank"]
By = Literal["kmeans", "communities"]


@dataclass(frozen=True)
class Denominator:
    """Settings of the negatives; all but "exact" and "batch" say each epoch how far they are from exact."""

    negatives: Kind = "exact"
    num_negatives: int = 1024  # drawn for a step (sampled) or for an anchor (cluster_sampled), or kept (bank)
    num_clusters: int = 0  # of the keys of each kind; 0: the square root of their number
    clusters_by: By = "kmeans"  # of the embeddings, or of the graph, once
    cluster_every: int = 1  # epochs between k-means
    cluster_order: Literal["1", "2", "2t"] = "1"
    own_cluster: Literal["exact", "approx", "drop"] = "exact"
    probe: int = 0  # clusters an anchor that are scored key by key
    cluster_gradient: Literal["through", "stop"] = "through"


# The settings that each kind reads.
_CLUSTERING = ("num_clusters", "clusters_by", "cluster_every")
_READ: dict[str, tuple[str, ...]] = {
    "exact": (),
    "batch": (),
    "sampled": ("num_negatives",),
    "bank": ("num_negatives",),
    "cluster_sampled": ("num_negatives", *_CLUSTERING),
    "clusters": (*_CLUSTERING, "cluster_order", "own_cluster", "probe", "cluster_gradient"),
}


def strategy(config: Denominator, graph: Graph, dim: int, rng: torch.Generator) -> Negatives:
    """A setting that these negatives do not read is logged as a warning. Raises ValueError for one outside its range."""
    check_known(config, negatives=get_args(Kind), clusters_by=get_args(By))
    changed = [field.name for field in fields(Denominator) if getattr(config, field.name) != field.default]
    read = {"negatives", *_READ[config.negatives]}
    told = f"negatives {config.negatives!r}"
    if "clusters_by" in read and config.clusters_by == "communities":  # which are found once, as many as there are
        read -= {"num_clusters", "cluster_every"}
        told += f" and clusters_by {config.clusters_by!r}"
    unread = [name for name in changed if name not in read]
    if unread:
        _log.warning("%s: not read with %s", ", ".join(unread), told)
    sizes = {kind: span.stop - span.start for kind, span in graph.kinds.items()}
    if config.negatives == "exact":
        return AllKeys()
    if config.negatives == "batch":
        return InBatch()
    if config.negatives == "sampled":
        return Sampled(config.num_negatives)
    if config.negatives == "bank":
        return Bank(sizes, config.num_negatives, dim)
    given = None
    if config.clusters_by == "communities":
        found = communities(graph, rng=rng)
        given = {kind: found[span].unique(return_inverse=True)[1] for kind, span in graph.kinds.items()}
    state = ClusterState(sizes, config.num_clusters or None, every=config.cluster_every, given=given)
    if config.negatives == "cluster_sampled":
        return ClusterSampled(state, config.num_negatives)
    order: Order = "2t" if config.cluster_order == "2t" else int(config.cluster_order)  # type: ignore[assignment]
    return Clusters(state, order=order, own_cluster=config.own_cluster, probe=config.probe, gradient=config.cluster_gradient)
