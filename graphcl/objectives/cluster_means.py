"""InfoNCE whose negatives are weighed by clusterings, every cluster but the anchor's by its mean."""

from __future__ import annotations

import torch
from torch import Tensor

from graphcl.contracts import Pair, Part, check_known
from graphcl.objectives.approximate import Gap, measured, watched
from graphcl.objectives.cluster_sums import cluster_log_sum_exp
from graphcl.objectives.log_sum_exp import joined
from graphcl.objectives.partition import Partition
from graphcl.objectives.rows import check_single, check_temperature, row_weights, weighted_mean
from graphcl.ops import Disagreement

_TILE_ENTRIES = 2**20  # pairs whose exact weights are held at a time


class ClusterMeans(Part):
    """``mean_i -s_ip / t + log sum_k sum_(c not i's) n_c exp(<q_i, mu_c> / t)`` over clusterings k and their clusters c.

    It bounds :class:`WeightedInfoNCE` with ``weights="cluster"`` from below: there a key counts as often as a clustering parts it
    from the anchor's positive, which is here a sum over clusterings, each without the anchor's own cluster. Time is O(m d + n K d)
    instead of O(n m d). An anchor that no clustering parts from any key does not count. ``assignments`` [m, k] at the call; ``gaps`` as
    of :class:`graphcl.objectives.Approximate`.

    Raises:
        ValueError: a temperature that is not above 0; sparse positives, or ids that do not fit the keys, at the call.
    """

    reads_all = True

    def __init__(self, temperature: float):
        super().__init__()
        check_temperature(temperature)
        self.temperature = temperature
        self.gaps: dict[str, Gap] = {}

    def start_epoch(self, inputs, epoch: int, rng: torch.Generator) -> None:
        self.gaps = {}

    def forward(self, pair: Pair, assignments: Tensor) -> Tensor:
        check_single(pair, "ClusterMeans")
        check_known(pair.positives)
        keys = pair.key.all()
        if assignments.ndim != 2 or len(assignments) != len(keys):
            raise ValueError(f"assignments are the cluster ids [{len(keys)}, k] of the keys, got {tuple(assignments.shape)}")
        anchors = torch.arange(len(pair.query), device=keys.device)
        parts = []
        for ids in assignments.T:
            partition = Partition.numbered(ids)
            own = partition.ids[pair.positives]
            parts.append(cluster_log_sum_exp(pair.query, keys, partition, self.temperature, dropped=(anchors, own)))
        lse = joined(parts)
        if self.training and pair.kind not in self.gaps and len(pair.query):
            self.gaps[pair.kind] = self._gap(pair, keys.detach(), assignments, lse.detach())
        counted = lse != -torch.inf
        losses = torch.where(counted, lse - (pair.query * keys[pair.positives]).sum(1) / self.temperature, 0.0)
        return weighted_mean(losses, counted * row_weights(pair))

    @torch.no_grad()
    def _gap(self, pair: Pair, keys: Tensor, assignments: Tensor, lse: Tensor) -> Gap:
        some, exact = watched(lse), []
        step, weigh = max(1, _TILE_ENTRIES // len(keys)), Disagreement(assignments[pair.positives[some]], assignments)
        for start, query in zip(range(0, len(some), step), pair.query[some].split(step), strict=True):
            logits = keys @ query.T / self.temperature
            weigh.add_log(logits, start, start + len(query))
            exact.append(logits.logsumexp(0))
        return measured(self, pair.kind, lse[some], torch.cat(exact))
