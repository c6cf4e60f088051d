"""Clustering the nodes of an attributed graph: an encoder without a graph, neighbours as positives, clusters that train themselves.

What PamC, its exact counterpart SCGC and a form with sizes share; they differ in the negative term.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from scipy import sparse
from torch import Tensor, nn

from graphcl.contracts import Batches, Targets, Terms
from graphcl.data.attributed import AttributedData
from graphcl.encoders.mlp import MLP
from graphcl.graph import normalised_adjacency
from graphcl.objectives.cluster_pairs import cluster_pairs
from graphcl.objectives.cluster_sums import cluster_log_sum_exp
from graphcl.objectives.log_sum_exp import log_sum_exp
from graphcl.objectives.partition import Partition
from graphcl.objectives.self_training import self_training, soft_clusters
from graphcl.ops import Sparse, pair_scores, segment_log_sum_exp, segment_numbers, truncated_svd, unit_rows
from graphcl.ops.sparse import csr_tensor
from graphcl.probe import one_thread
from graphcl.recipes.metapaths import step as step
from graphcl.recipes.metapaths import whole
from graphcl.recipes.settings import ClusterTraining, check_counts
from graphcl.views.neighbours import influence

_KMEANS_ROWS = 50_000  # at most, for the first centres
NegativeTerm = Literal["pairs", "exact", "clusters"]


@dataclass(frozen=True)
class NodeClustering(ClusterTraining):
    """Settings that the recipes share."""

    dim: int = 10
    epochs: int = 200
    features: Literal["raw", "smoothed"] = "raw"  # smoothed: TF-IDF, truncated SVD to ``rank``, ``smooth`` hops, unit rows
    rank: int = 16
    smooth: int = 3
    layers: tuple = (500, 500, 2000)  # hidden widths
    pretrain_epochs: int = 30  # of an auto-encoder on the features
    pretrain_rate: float = 1e-3
    weight: float = 1.0  # alpha: of the contrast
    self_weight: float = 1.0  # beta: of the self-training
    hops: int = 1  # R
    limit: int = 64  # positives of a node, at most; 0: all
    temperature: float = 1.0  # 1 / "tau" of the release


@dataclass(frozen=True, eq=False)
class Neighbourhoods:
    """Features, and each node's positives with their weights."""

    x: Tensor | Sparse  # [N, F]
    positives: Tensor  # sparse CSR [N, N]
    num_clusters: int

    def to(self, device: torch.device | str) -> Neighbourhoods:
        return replace(self, x=self.x.to(device), positives=self.positives.to(device))


def inputs(config: NodeClustering, data: AttributedData, *, rng: torch.Generator) -> Neighbourhoods:
    """Raises ValueError for data that do not say how many clusters there are."""
    if not data.num_clusters:
        raise ValueError(
            f"{data.name} has no classes, so how many clusters to look for must be told: num_clusters= of AttributedData or in "
            "options=, --num-clusters on the command line"
        )
    near = influence(data.graph, config.hops, config.limit or None)
    positives = csr_tensor(near)
    if config.features == "smoothed":
        return Neighbourhoods(smoothed(data, config.rank, config.smooth), positives, data.num_clusters)
    x = data.x
    if isinstance(x, sparse.csr_matrix) and x.nnz > 0.2 * math.prod(x.shape):
        x = torch.from_numpy(x.toarray())
    return Neighbourhoods(Sparse.from_scipy(x) if isinstance(x, sparse.csr_matrix) else x, positives, data.num_clusters)


def smoothed(data: AttributedData, rank: int, hops: int, *, tfidf: bool = True, unit: bool = True) -> Tensor:  # [N, rank]
    """Rows of unit length, each column first weighed by its inverse frequency (0 for one without a zero); a truncated SVD; ``hops`` times
    ``D^-1/2 (A + I) D^-1/2``; unit rows again."""
    x = data.x if isinstance(data.x, sparse.csr_matrix) else sparse.csr_matrix(data.x.numpy())
    nodes = data.graph.num_nodes
    if tfidf:
        held = np.maximum(np.bincount(x.indices[x.data != 0], minlength=x.shape[1]), 1)
        weights = np.log(nodes / held)
        if not weights.any():
            raise ValueError(
                f"{data.name}: no feature is 0 for any node, so their inverse frequencies are 0 and nothing is left of them"
            )
        x = (x @ sparse.diags(weights)).tocsr()
    length = np.sqrt(np.asarray(x.multiply(x).sum(axis=1), dtype=np.float64).ravel())
    scale = np.divide(1.0, length, out=np.zeros_like(length), where=length > 0)
    scaled = (sparse.diags(scale) @ x).tocsr().astype(np.float32)
    found = truncated_svd(Sparse.from_scipy(scaled), min(rank, *x.shape))
    h = found.u * found.s
    hop = normalised_adjacency(data.graph.adj.to_scipy() + sparse.eye(nodes, dtype=np.float32, format="csr"))
    for _ in range(hops):
        h = hop @ h
    return unit_rows(h) if unit else h


def build(
    config: NodeClustering, data: AttributedData, prepared: Neighbourhoods, negatives: NegativeTerm, *, rng: torch.Generator
) -> Clusterer:
    """Before its ``begin``."""
    if config.features not in ("raw", "smoothed"):
        raise ValueError(f"features must be raw or smoothed, got {config.features!r}")
    if config.layers:
        check_counts("layers", config.layers, 1)
    width = prepared.x.shape[1]
    return Clusterer(MLP((width, *config.layers, config.dim), rng=rng), prepared.num_clusters, config, negatives)


def reconstruct(encoder: MLP, x: Tensor | Sparse, config: NodeClustering, rng: torch.Generator) -> None:
    """Trains the encoder with a mirrored decoder: mean squared error, Adam, batches of 256 (SDCN's pretraining)."""
    device = next(encoder.parameters()).device
    decoder = MLP((config.dim, *reversed(config.layers), x.shape[1]), rng=rng).to(device)
    adam = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=config.pretrain_rate, fused=True)
    for _ in range(config.pretrain_epochs):
        for rows in torch.randperm(x.shape[0], generator=rng).to(device).split(256):
            batch = x[rows] if isinstance(x, Tensor) else _written_out(x.select(rows))
            loss = F.mse_loss(decoder(encoder(batch)), batch)
            adam.zero_grad()
            loss.backward()
            adam.step()


def _written_out(some: Sparse) -> Tensor:  # [b, F]
    out = torch.zeros(some.shape, device=some.col.device)
    out[segment_numbers(some.rowptr), some.col.long()] = some.entries()
    return out


class Clusterer(nn.Module):
    """An encoder, the centres of the clusters, and the two terms of the loss."""

    def __init__(self, encoder: MLP, num_clusters: int, config: NodeClustering, negatives: NegativeTerm):
        super().__init__()
        if negatives not in get_args(NegativeTerm):
            raise ValueError(f"negatives must be one of {', '.join(get_args(NegativeTerm))}, got {negatives!r}")
        if not config.temperature > 0:
            raise ValueError(f"temperature must be above 0, got {config.temperature}")
        self.encoder, self.config, self.negatives = encoder, config, negatives
        self.centres = nn.Parameter(torch.zeros(num_clusters, config.dim))

    def begin(self, inputs: Neighbourhoods, rng: torch.Generator) -> None:
        """Trains the encoder as half of an auto-encoder, then puts the centres where those of k-means are (20 starts)."""
        if self.config.pretrain_epochs:
            reconstruct(self.encoder, inputs.x, self.config, rng)
        self._place(inputs, rng)

    @torch.no_grad()
    def _place(self, inputs: Neighbourhoods, rng: torch.Generator) -> None:
        from sklearn.cluster import KMeans

        z = self.encoder(inputs.x)
        if len(z) > _KMEANS_ROWS:
            z = z[torch.randperm(len(z), generator=rng)[:_KMEANS_ROWS].to(z.device)]
        seed = int(torch.randint(2**31, (), generator=rng))
        with one_thread():
            found = KMeans(len(self.centres), n_init=20, random_state=seed).fit(z.numpy(force=True))
        self.centres.copy_(torch.from_numpy(found.cluster_centers_))

    def losses(self, inputs: Neighbourhoods, batch: Targets, rng: torch.Generator) -> Terms:
        z = self.encoder(inputs.x)
        q = soft_clusters(z, self.centres)
        terms = {"self": self.config.self_weight * self_training(q)}
        if self.config.weight:
            partition = Partition(q.detach().argmax(1), len(self.centres))
            terms["contrast"] = self.config.weight * contrast(
                z, inputs.positives, partition, self.config.temperature, self.negatives
            )
        return terms

    @torch.no_grad()
    def embed(self, inputs: Neighbourhoods) -> Tensor:  # [N, d]
        return self.encoder(inputs.x)

    @torch.no_grad()
    def clusters(self, inputs: Neighbourhoods) -> Tensor:  # [N] int64
        return soft_clusters(self.encoder(inputs.x), self.centres).argmax(1)


def contrast(
    z: Tensor,  # [N, d]
    positives: Tensor,  # sparse CSR [N, N], with weights
    partition: Partition,
    temperature: float,
    negatives: NegativeTerm,
) -> Tensor:
    """``mean_i -log sum_j gamma_ij exp(s_ij / t)`` plus the negative term, s being cosines and ``s_ii`` 0.

    Negatives: "pairs" is PamC's term between clusters; "exact" the log-sum-exp over all nodes; "clusters" that over the other clusters by
    size and mean, and the own node. An isolated node has no gradient but that of the negative term.
    """
    unit = unit_rows(z)
    pointers, columns = positives.crow_indices(), positives.col_indices()
    rows = segment_numbers(pointers)
    similar = torch.where(rows == columns, 0.0, pair_scores(unit, unit, pointers, columns) / temperature)
    near = segment_log_sum_exp(similar + positives.values().to(z.dtype).log(), pointers)
    if negatives == "pairs":
        return cluster_pairs(z, partition, temperature) - near.mean()
    every = torch.arange(len(z), device=z.device)
    if negatives == "exact":
        lse = log_sum_exp(unit, unit, temperature, tile_entries=2**24, banned=(every, every))
    else:
        lse = cluster_log_sum_exp(unit, unit, partition, temperature, dropped=(every, partition.ids))
    return (torch.logaddexp(lse, torch.zeros_like(lse)) - near).mean()  # the own node is exp(0)


def batches(config: NodeClustering, data: AttributedData) -> Batches:
    return whole
