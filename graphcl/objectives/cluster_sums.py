"""Log-sum-exp of each anchor over clusters of keys: a cluster counts as its total weight at its mean.

    S1_i = sum_c W_c exp(<q_i, mu_c> / t)        W_c = sum_j w_j     mu_c = sum_j w_j k_j / W_c     over the keys j of cluster c

By Jensen's inequality this is no more than the exact sum. Means are of the keys as they are now, so only the assignment can be old.
Pairs of an anchor and a cluster may be scored key by key instead, or left out. A key that is excluded for an anchor leaves
its cluster for that anchor: ``W_c - m`` and ``(W_c <q, mu_c> - s) / (W_c - m)``, where m and s are the excluded keys' weight and
weighted inner product; no other centroid is made. The whole costs O(m d + n K d), and O(d) for each key scored.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from graphcl.objectives.log_sum_exp import Entries, joined, log_sum_exp
from graphcl.objectives.partition import Partition, through_unit
from graphcl.ops import ClusterBlocks, add_rows, pair_scores, row_pointers, segment_log_sum_exp, segment_sum, unit_rows
from graphcl.ops.segment import pointers_of

Order = Literal[1, 2, "2t"]
_FEW = 64  # anchors a cluster, up to which its keys are read once instead of gathered for a matrix product
_STORED = 2**23  # logits of exact pairs that are kept for the backward; more are computed again


def cluster_log_sum_exp(
    query: Tensor,  # [n, d]
    keys: Tensor,  # [m, d]
    partition: Partition,
    temperature: float,
    *,
    order: Order = 1,
    exact: Entries | None = None,  # anchors and clusters that are scored key by key
    dropped: Entries | None = None,  # anchors and clusters that are left out
    exclude: Entries | None = None,  # anchors and keys that are left out
    key_weights: Tensor | None = None,  # [m]
    normalise: bool = False,  # the keys
    through: bool = True,  # gradients reach keys through the means
    weights: Tensor | None = None,  # [n] in proportion to what will flow back
    tile_entries: int = 2**20,
) -> Tensor:  # [n]; -inf for an anchor without keys
    """``order`` 2 adds ``v / 2`` to a cluster's logit, v being the variance of its keys' logits; "2t" adds ``log(1 + v / 2)``, which stays
    closer where v is large. Neither is a bound."""
    key_weights = None if key_weights is None else key_weights.to(query.dtype)
    exact = None if exact is None else _sorted(exact, len(query), by=1)
    excluded = None if exclude is None else _sorted(exclude, len(keys), by=0)
    total = partition.weight(key_weights, query)
    sums, blocks = _Sums.apply(
        query, keys,
        _Plan(
            partition, key_weights, normalise, through, temperature, exact, _inside(excluded, exact, partition, len(query)), tile_entries
        ),
    )  # fmt: skip
    parts = []
    if exact is not None:
        parts.append(_by_rows(blocks, exact[0], len(query)))
    left_out = [pairs for pairs in (exact, dropped) if pairs is not None]
    if excluded is not None and left_out:
        outside = ~torch.isin(_flat(excluded[0], partition.ids[excluded[1]], partition.count), _flats(left_out, partition.count))
        excluded = excluded[0][outside], excluded[1][outside]
    means = keys if through else keys.detach()
    if order != 1:
        parts.append(
            _second(query, means, partition, temperature, order, sums, total, left_out, excluded, key_weights, normalise)
        )
        return joined(parts)
    if excluded is not None and len(excluded[0]):
        pairs, logits = _reduced(query, means, partition, temperature, sums, total, excluded, key_weights, normalise)
        parts.append(_by_rows(logits, pairs[0], len(query)))
        left_out.append(pairs)
    some = total > 0
    shared = log_sum_exp(
        query, sums / torch.where(some, total, 1.0)[:, None], temperature, tile_entries=tile_entries,
        bias=torch.where(some, total.log(), -torch.inf), weights=None if parts else weights,
        banned=None if not left_out else (torch.cat([r for r, _ in left_out]), torch.cat([c for _, c in left_out])),
    )  # fmt: skip
    return joined([shared, *parts])


class _Plan(NamedTuple):
    partition: Partition
    weights: Tensor | None  # [m]
    normalise: bool
    through: bool
    temperature: float
    exact: Entries | None  # by cluster, then by anchor
    banned: tuple[Tensor, Tensor] | None  # excluded keys in them: number of the pair (rising), key
    tile_entries: int


class _Sums(Function):
    """Each cluster's sum of keys, and the log-sum-exp over the keys of each exact pair. Two results of one function, for their
    gradients are then one table."""

    @staticmethod
    def forward(ctx, query, keys, plan):
        ctx.plan = plan
        sums = plan.partition.sums(keys, plan.weights, plan.normalise)
        ctx.shares, ctx.few = [], _few(query, plan)
        if ctx.few is not None:
            blocks = ctx.few.log_sum_exp(query, keys, plan.temperature, plan.normalise)
            ctx.save_for_backward(query, keys, blocks)
            return sums, blocks
        blocks = query.new_empty(0 if plan.exact is None else len(plan.exact[0]))
        stored = 0
        for span, rows, members in _blocks(plan):
            logits = _block(query, keys, plan, span, rows, members)[0]
            blocks[span] = logits.logsumexp(1)
            stored += logits.numel()
            if stored <= _STORED:
                ctx.shares.append(torch.where(blocks[span, None] == -torch.inf, 0.0, (logits - blocks[span, None]).exp()))
        ctx.save_for_backward(query, keys, blocks)
        return sums, blocks

    @staticmethod
    @once_differentiable
    def backward(ctx, to_sums, to_blocks):
        query, keys, blocks = ctx.saved_tensors
        plan, t = ctx.plan, ctx.plan.temperature
        near = torch.zeros_like(query)
        far = plan.partition.spread(to_sums, keys, plan.weights, plan.normalise) if plan.through else torch.zeros_like(keys)
        if ctx.few is not None:
            ctx.few.add_gradients(query, keys, t, plan.normalise, blocks, to_blocks, near, far)
            return near, far, None
        for number, (span, rows, members) in enumerate(_blocks(plan)):
            if number < len(ctx.shares):
                share, members_rows = ctx.shares[number], _members(keys, members, plan.normalise)
            else:
                logits, members_rows = _block(query, keys, plan, span, rows, members)
                share = torch.where(blocks[span, None] == -torch.inf, 0.0, (logits - blocks[span, None]).exp())
            share = share * (to_blocks[span, None] / t)
            add_rows(near, rows, share @ members_rows)
            back = share.T @ query[rows]
            if plan.normalise:
                back = through_unit(back, keys[members])
            far[members] += back  # a member stands once
        ctx.shares = []
        return near, far, None


def _few(query: Tensor, plan: _Plan) -> ClusterBlocks | None:
    """The exact pairs as blocks without a matrix product, where these are small."""
    if query.device.type != "cpu" or plan.exact is None or not len(plan.exact[0]):
        return None
    rows, clusters = plan.exact
    found, counts = clusters.unique_consecutive(return_counts=True)
    if len(rows) > _FEW * len(found):
        return None
    pointers, banned = plan.partition.pointers, plan.banned
    return ClusterBlocks(
        rows, pointers_of(counts), plan.partition.order,
        torch.stack([pointers[found], pointers[found + 1]], 1),
        None if plan.weights is None else plan.weights.log(),
        None if banned is None else (banned[0], plan.partition.rank[banned[1]]),
    )  # fmt: skip


def _blocks(plan: _Plan):
    """Of each cluster with exact pairs, some at a time: their span, their anchors and the cluster's keys."""
    if plan.exact is None or not len(plan.exact[0]):
        return
    rows, clusters = plan.exact
    found, counts = clusters.unique_consecutive(return_counts=True)
    starts = plan.partition.pointers.tolist()
    start = 0
    for cluster, count in zip(found.tolist(), counts.tolist(), strict=True):
        members, stop = plan.partition.order[starts[cluster] : starts[cluster + 1]], start + count
        step = max(1, plan.tile_entries // max(1, len(members)))
        for first in range(start, stop, step):
            span = slice(first, min(first + step, stop))
            yield span, rows[span], members
        start = stop


def _members(keys: Tensor, members: Tensor, normalise: bool) -> Tensor:
    return unit_rows(keys[members]) if normalise else keys[members]


def _block(query: Tensor, keys: Tensor, plan: _Plan, span: slice, rows: Tensor, members: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of some anchors with a cluster's keys, and these."""
    found = _members(keys, members, plan.normalise)
    logits = query[rows] @ found.T / plan.temperature
    if plan.weights is not None:
        logits += plan.weights[members].log()
    if plan.banned is not None:
        first, last = torch.searchsorted(plan.banned[0], plan.banned[0].new_tensor([span.start, span.stop])).tolist()
        pair, key = plan.banned[0][first:last], plan.banned[1][first:last]
        if len(pair):
            logits[pair - span.start, plan.partition.rank[key] - plan.partition.rank[members[0]]] = -torch.inf
    return logits, found


def _flat(rows: Tensor, cols: Tensor, width: int) -> Tensor:
    return rows * width + cols


def _flats(pairs: list[Entries], width: int) -> Tensor:
    return torch.cat([_flat(rows, cols, width) for rows, cols in pairs])


def _sorted(entries: Entries, width: int, by: int) -> Entries:
    """Each entry once, by rows and then columns (0) or the other way round (1)."""
    major, minor = entries[by], entries[1 - by]
    width = max(width, 1)
    flat = _flat(major, minor, width).unique()
    major, minor = flat // width, flat % width
    return (major, minor) if by == 0 else (minor, major)


def _inside(excluded: Entries | None, exact: Entries | None, partition: Partition, n: int) -> tuple[Tensor, Tensor] | None:
    """The excluded keys that stand in exact pairs: each one's pair, rising, and key."""
    if excluded is None or exact is None or not len(exact[0]):
        return None
    pairs = _flat(exact[1], exact[0], n)
    wanted = _flat(partition.ids[excluded[1]], excluded[0], n)
    place = torch.searchsorted(pairs, wanted).clamp_max(len(pairs) - 1)
    there = pairs[place] == wanted
    place, key = place[there], excluded[1][there]
    order = place.argsort(stable=True)
    return place[order], key[order]


def _by_rows(values: Tensor, rows: Tensor, n: int) -> Tensor:  # [E], [E] -> [n]
    """Log-sum-exp of each row's values."""
    order = rows.argsort(stable=True)
    return segment_log_sum_exp(values[order], row_pointers(rows, n))


def _scores(query: Tensor, keys: Tensor, entries: Entries, normalise: bool) -> Tensor:
    """``<q_i, k_j>`` of entries in order of rows [E]."""
    columns, place = entries[1].unique(return_inverse=True)
    rows = keys[columns]
    return pair_scores(query, unit_rows(rows) if normalise else rows, row_pointers(entries[0], len(query)), place)


def _gone(
    query: Tensor, keys: Tensor, partition: Partition, excluded: Entries, weights: Tensor | None, normalise: bool
) -> tuple[Entries, Tensor, Tensor]:
    """What excluded keys take with them: anchor and cluster, weight and inner product [E]."""
    score = _scores(query, keys, excluded, normalise)
    number, clusters, share = partition.spread_out(excluded[1])
    weight = query.new_ones(len(excluded[1])) if weights is None else weights[excluded[1]]
    weight = weight[number] if share is None else weight[number] * share.to(query.dtype)
    return (excluded[0][number], clusters), weight, score[number]


def _reduced(
    query: Tensor, keys: Tensor, partition: Partition, temperature: float, sums: Tensor, total: Tensor, excluded: Entries,
    weights: Tensor | None, normalise: bool,
) -> tuple[Entries, Tensor]:  # fmt: skip
    """Anchors with the clusters that some key has left for them, and their logits."""
    (rows, clusters), weight, score = _gone(query, keys, partition, excluded, weights, normalise)
    flat, number, counts = _flat(rows, clusters, partition.count).unique(return_inverse=True, return_counts=True)
    order = number.argsort(stable=True)
    pointers = pointers_of(counts)
    gone, pulled = segment_sum(weight[order], pointers), segment_sum((weight * score)[order], pointers)
    anchors, clusters = flat // partition.count, flat % partition.count
    dots = pair_scores(query, sums, row_pointers(anchors, len(query)), clusters)
    left = total[clusters] - gone
    some = (counts < partition.holders[clusters]) & (left > 0)
    left = torch.where(some, left, 1.0)
    return (anchors, clusters), torch.where(some, left.log() + (dots - pulled) / (left * temperature), -torch.inf)


def _second(
    query: Tensor, keys: Tensor, partition: Partition, temperature: float, order: Order, sums: Tensor, total: Tensor,
    left_out: list[Entries], excluded: Entries | None, weights: Tensor | None, normalise: bool,
) -> Tensor:  # fmt: skip
    """Log-sum-exp [n] to second order, over a table of logits [n, K]."""
    first, second = query @ sums.T, _Quadratic.apply(query, _moments(keys, partition, weights, normalise))
    left, holders = total.expand(len(query), -1), partition.holders.expand(len(query), -1)
    if excluded is not None and len(excluded[0]):
        at, weight, score = _gone(query, keys, partition, excluded, weights, normalise)
        first = first.index_put(at, -weight * score, accumulate=True)
        second = second.index_put(at, -weight * score.square(), accumulate=True)
        left = left.index_put(at, -weight, accumulate=True)
        holders = holders.index_put(at, torch.full_like(at[1], -1), accumulate=True)
    some = (holders > 0) & (left > 0)
    for pairs in left_out:
        some = some.index_put(pairs, torch.tensor(False, device=some.device))
    left = torch.where(some, left, 1.0)
    mean = first / left
    half = (second / left - mean.square()).clamp_min(0) / (2 * temperature**2)
    logits = left.log() + mean / temperature + (half if order == 2 else half.log1p())
    return segment_log_sum_exp(
        torch.where(some, logits, -torch.inf).flatten(), torch.arange(len(query) + 1, device=query.device) * partition.count
    )


def _moments(keys: Tensor, partition: Partition, weights: Tensor | None, normalise: bool) -> Tensor:
    """``sum_j w_j k_j k_j'`` of each cluster [K, d, d]."""
    rows = unit_rows(keys) if normalise else keys
    number, clusters, share = partition.spread_out(torch.arange(len(keys), device=keys.device))
    order = clusters.argsort(stable=True)
    rows = rows[number[order]]
    weighed = rows if weights is None else rows * weights[number[order], None]
    weighed = weighed if share is None else weighed * share[order, None].to(rows.dtype)
    sizes = torch.bincount(clusters, minlength=partition.count).tolist()
    return torch.stack([a.T @ b for a, b in zip(rows.split(sizes), weighed.split(sizes), strict=True)])


class _Quadratic(Function):
    """``q' M_c q`` [n, K], a cluster at a time: the products [n, K, d] are never held."""

    @staticmethod
    def forward(ctx, query, moments):
        ctx.save_for_backward(query, moments)
        return torch.stack([((query @ moment) * query).sum(1) for moment in moments], 1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        query, moments = ctx.saved_tensors
        near, far = torch.zeros_like(query), torch.empty_like(moments)
        for c, moment in enumerate(moments):  # the moments are symmetric
            weighed = query * grad[:, c, None]
            near.addmm_(weighed, moment, alpha=2)
            far[c] = weighed.T @ query
        return near, far
