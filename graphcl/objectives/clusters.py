"""All keys by their clusters: first or second order, some clusters key by key, or as a proposal that is corrected."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from graphcl.objectives.approximate import Approximate, Call
from graphcl.objectives.cluster_state import ClusterState
from graphcl.objectives.cluster_sums import Order, cluster_log_sum_exp
from graphcl.objectives.log_sum_exp import Entries, joined
from graphcl.objectives.partition import Partition
from graphcl.ops import pair_scores, segment_log_sum_exp

Own = Literal["exact", "approx", "drop"]
Gradient = Literal["through", "stop"]


class Clusters(Approximate):
    """Every key, as one of a cluster: ``sum_c W_c exp(<q, mu_c> / t)`` with sizes and means of the keys as they are now.

    ``own_cluster``, that of the anchor's positives: scored key by key ("exact"), as the others ("approx"), or left out ("drop",
    its positives too: false negatives are taken to be near). ``probe``: so many clusters with the largest terms are scored key by key as
    well. With order 1 the result is a lower bound of the exact one, unless a cluster is dropped; order 2 and "2t" add the
    variance within clusters, cost O(K d^2) more an anchor, and are no bounds. ``gradient``: to keys through their cluster's mean, or
    "stop", which leaves them only those of what is scored key by key and of the positives.

    Sources: order 1 with own clusters dropped and sizes lost is PamC's idea, Kulatilleke et al., arXiv 2209.14067; the bound is
    Jensen's inequality.
    """

    def __init__(
        self,
        state: ClusterState,
        *,
        order: Order = 1,
        own_cluster: Own = "exact",
        probe: int = 0,
        gradient: Gradient = "through",
        rng: torch.Generator | None = None,
        tile_entries: int = 2**20,
    ):
        super().__init__(rng, tile_entries)
        for name, value, allowed in (
            ("order", order, get_args(Order)), ("own_cluster", own_cluster, get_args(Own)), ("gradient", gradient, get_args(Gradient)),
        ):  # fmt: skip
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(map(str, allowed))}, got {value!r}")
        if probe < 0:
            raise ValueError(f"probe must be 0 or more clusters, got {probe}")
        self.state, self.order, self.own_cluster, self.probe, self.gradient = state, order, own_cluster, probe, gradient

    def estimate(self, call: Call) -> Tensor:
        partition = self.state.of(call.kind, call.key, call.normalise, self._rng)
        if partition.shares is not None and (self.own_cluster != "approx" or self.probe):
            raise ValueError(
                "keys that belong to several clusters have none of their own: own_cluster must be approx, and probe 0"
            )
        keys = call.key.all()
        rows, cols = call.known
        own = rows, partition.ids[cols]
        exact = [own] if self.own_cluster == "exact" else []
        if self.probe:
            near = self._nearest(call, keys, partition)
            if self.own_cluster == "drop":
                kept = ~torch.isin(near[0] * partition.count + near[1], own[0] * partition.count + own[1])
                near = near[0][kept], near[1][kept]
            exact.append(near)
        return cluster_log_sum_exp(
            call.query, keys, partition, call.temperature, order=self.order, key_weights=call.key_weights, exclude=call.banned,
            exact=(torch.cat([r for r, _ in exact]), torch.cat([c for _, c in exact])) if exact else None,
            dropped=own if self.own_cluster == "drop" else None,
            normalise=call.normalise, through=self.gradient == "through", weights=call.weights, tile_entries=self.tile_entries,
        )  # fmt: skip

    @torch.no_grad()
    def _nearest(self, call: Call, keys: Tensor, partition: Partition) -> Entries:
        count = min(self.probe, partition.count)
        near = torch.cat([logits.topk(count, dim=1).indices for logits in _proposals(call, keys, partition, self.tile_entries)])
        return torch.arange(len(near), device=near.device).repeat_interleave(count), near.flatten()


class ClusterSampled(Approximate):
    """``count`` keys for each anchor, drawn by cluster and corrected: a cluster in proportion to ``W_c exp(<q, mu_c> / t)``, then a key
    of it by weight. ``sum_c W_c exp(<q, mu_c> / t)`` times the mean of ``exp(<q, k - mu_c> / t)`` estimates the sum without bias.

    An anchor's positives are not drawn but added as they are. The logarithm is low by half the estimate's relative
    variance, which falls as 1 / count. No gradient flows through the proposal.

    Source: as MIDX (XuHwang/MIDX_Journal@3ed65da) with one code book, whose correction is by the proposal too.
    """

    def __init__(self, state: ClusterState, count: int = 64, *, rng: torch.Generator | None = None, tile_entries: int = 2**20):
        super().__init__(rng, tile_entries)
        if count < 1:
            raise ValueError(f"count must be 1 or more keys an anchor, got {count}")
        self.state, self.count = state, count

    def estimate(self, call: Call) -> Tensor:
        partition = self.state.of(call.kind, call.key, call.normalise, self._rng)
        if partition.shares is not None:
            raise ValueError("a key is drawn from one cluster, so clusters must not share keys")
        drawn, offset = self._draw(call, call.key.all().detach(), partition)
        flat, n = drawn.flatten(), len(call.query)
        some = _marked(flat, len(call.key))  # a mark for every key instead of a sort of all draws
        pointers = torch.arange(n + 1, device=flat.device) * self.count
        logits = pair_scores(call.query, call.rows(some.nonzero().squeeze(1)), pointers, (some.cumsum(0) - 1)[flat])
        logits = logits / call.temperature + offset.flatten()
        left_out = call.numbers(call.known, call.banned)
        near = _marked(left_out % len(call.key), len(call.key))[flat].nonzero().squeeze(1)
        out = torch.zeros_like(flat, dtype=torch.bool)
        out[near] = torch.isin(near // self.count * len(call.key) + flat[near], left_out)
        rest = segment_log_sum_exp(torch.where(out, -torch.inf, logits), pointers)
        return joined([rest, call.positive_lse()])

    @torch.no_grad()
    def _draw(self, call: Call, keys: Tensor, partition: Partition) -> tuple[Tensor, Tensor]:
        """Keys [n, count], and what their logits lack of the estimate: ``-log(share of the cluster) + log W_c - log count``."""
        weight = partition.weight(call.key_weights, call.query)
        each = None if call.key_weights is None else call.key_weights[partition.order].double().cumsum(0)
        drawn, offset = [], []
        for logits in _proposals(call, keys, partition, self.tile_entries):
            chance = logits.log_softmax(1)
            clusters = torch.multinomial(chance.exp().cpu(), self.count, replacement=True, generator=self.rng).to(keys.device)
            u = torch.rand(clusters.shape, generator=self.rng, dtype=torch.float64).to(keys.device)
            first, size = partition.pointers[clusters], partition.sizes[clusters]
            if each is None:
                place = first + (u * size).long()
            else:
                before = torch.cat([each.new_zeros(1), each])
                place = torch.searchsorted(each, before[first] + u * (before[first + size] - before[first]), right=True)
            drawn.append(partition.order[torch.minimum(place, first + size - 1)])
            offset.append(weight[clusters].log() - chance.gather(1, clusters) - math.log(self.count))
        return torch.cat(drawn), torch.cat(offset)


def _proposals(call: Call, keys: Tensor, partition: Partition, tile_entries: int):
    """Logits of blocks of anchors with all clusters [b, K]; of an empty one -inf."""
    weight = partition.weight(call.key_weights, call.query)
    some = weight > 0
    means = partition.sums(keys, call.key_weights, call.normalise) / torch.where(some, weight, 1.0)[:, None]
    bias = torch.where(some, weight.log(), -torch.inf)
    for query in call.query.split(max(1, tile_entries // partition.count)):  # one empty block where there are no anchors
        yield torch.addmm(bias, query, means.T, alpha=1 / call.temperature)


def _marked(ids: Tensor, size: int) -> Tensor:  # [size] bool
    marks = torch.zeros(size, dtype=torch.bool, device=ids.device)
    marks[ids] = True
    return marks
