"""InfoNCE in which each pair's place in the denominator has a weight of its own: by clusters or learned."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from graphcl.contracts import Pair
from graphcl.objectives.infonce import InfoNCE
from graphcl.objectives.negatives import AllKeys
from graphcl.objectives.rows import check_single, check_temperature, row_shares
from graphcl.ops import Disagreement, Gate, drawn_linear, exp_columns, gather_rows, memory, unit_rows

Weights = Literal["none", "cluster", "learned"]
Mode = Literal["joint", "normalised"]
_MOST = 512  # anchors of a tile: more gain nothing


class WeightedInfoNCE(nn.Module):
    """``mean_i -s_ip / t + log sum_j gamma_ij exp(s_ij / t)`` over all keys j, p being the anchor's positive.

    ``weights``: "none" is gamma = 1. "cluster" takes the keys' cluster ids ``assignments`` [m, K] under K clusterings at the call, and
    gamma_ij is the number of clusterings that part j from i's positive. It is 0 for the positive itself, which is thus not in the
    denominator, and the loss may be negative; where no clustering parts any two keys the loss is 0 without gradients. "learned" is
    ``gamma_ij = sigmoid(w2 . tanh(W1 (q_i + k_j) + b1) + b2)`` with ``hidden`` units, the positive included.

    ``similarity``: "dot", or "cosine", under which learned weights too see unit rows. ``mode``, of learned weights: "joint" minimises
    over them as they are, so their common scale falls without bound while it moves no embedding; "normalised" divides each anchor's by
    their mean over the keys. ``tile_entries``: logits held at a time, but those of one anchor at least; "learned" holds a second tile,
    "normalised" a third. ``rng`` draws the parameters. ``pair.weights`` count anchors as in :class:`InfoNCE`.

    Raises:
        ValueError: a setting outside its range; sparse positives, or ids that do not fit the keys, at the call.

    Source: "cluster" is MEOW (SDM 2023) and "learned" AdaMEOW (TKDE 2024), both arXiv 2212.13847; the release, MEOW@6a072d7.
    Departs: the release holds gamma [n, m], and the sums q_i + k_j [n, m, d].
    Relations: "none" is InfoNCE over AllKeys.
    """

    reads_all = True

    def __init__(
        self,
        temperature: float,
        weights: Weights = "none",
        *,
        similarity: Literal["dot", "cosine"] = "dot",
        dim: int | None = None,
        hidden: int = 16,
        mode: Mode = "joint",
        tile_entries: int = 2**20,
        rng: torch.Generator | None = None,
    ):
        super().__init__()
        check_temperature(temperature)
        for name, value, allowed in (
            ("weights", weights, get_args(Weights)), ("similarity", similarity, ("dot", "cosine")), ("mode", mode, get_args(Mode)),
        ):  # fmt: skip
            if value not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
        for name, count in (("dim", dim), ("hidden", hidden), ("tile_entries", tile_entries)):
            if count is not None and count < 1:
                raise ValueError(f"{name} must be 1 or more, got {count}")
        if mode == "normalised" and weights != "learned":
            raise ValueError(f"mode='normalised' is for weights='learned', got weights={weights!r}")
        self.temperature, self.weights, self.similarity = temperature, weights, similarity
        self.mode, self.tile_entries = mode, tile_entries
        if weights == "learned":
            if dim is None or rng is None:
                raise ValueError("weights='learned' needs dim, the width of the rows, and rng, which draws its parameters")
            self.inner, self.outer = drawn_linear(dim, hidden, rng), drawn_linear(hidden, 1, rng)  # W1, b1; w2, b2

    def forward(self, pair: Pair, assignments: Tensor | None = None) -> Tensor:
        if (assignments is None) == (self.weights == "cluster"):
            told = "needs" if assignments is None else "takes no"
            raise ValueError(f"weights={self.weights!r} {told} assignments, the cluster ids [m, K] of the keys")
        if self.weights == "none":
            return InfoNCE(self.temperature, self.similarity, AllKeys(self.tile_entries))(pair)
        check_single(pair, f"weights={self.weights!r}")
        query, keys = pair.query, pair.key.all()
        if self.similarity == "cosine":
            query, keys = unit_rows(query), unit_rows(keys)
        shares = row_shares(pair)
        settings = self.temperature, self.tile_entries, self.mode == "normalised", torch.is_grad_enabled()
        if assignments is None:
            denominator = _Denominator.apply(settings, shares, None, query, keys, *self._layer(query, keys))
        else:
            ids = _checked(assignments, keys)
            if bool((ids == ids[:1]).all()):
                return 0 * (query.sum() + keys.sum())
            denominator = _Denominator.apply(settings, shares, (ids[pair.positives], ids), query, keys)
        return denominator - shares @ (query * gather_rows(keys, pair.positives)).sum(1) / self.temperature

    def _layer(self, query: Tensor, keys: Tensor) -> tuple[Tensor, ...]:
        """What a :class:`Gate` takes: W1 (q + k) + b1 is a sum of one vector for each anchor and one for each key."""
        if query.shape[1] != self.inner.in_features:
            raise ValueError(f"the learned weights are for rows of width {self.inner.in_features}, got {query.shape[1]}")
        return self.inner(query), F.linear(keys, self.inner.weight), self.outer.weight[0], self.outer.bias[0]


def _checked(assignments: Tensor, keys: Tensor) -> Tensor:
    if assignments.ndim != 2 or len(assignments) != len(keys) or not assignments.shape[1] or assignments.dtype != torch.int64:
        found = f"{assignments.dtype} of shape {tuple(assignments.shape)}"
        raise ValueError(f"assignments must be int64 [m, K], a row for each of {len(keys)} keys, got {found}")
    if bool(((assignments < 0) | (assignments >= 2**31)).any()):
        raise ValueError(
            f"cluster ids must lie between 0 and 2**31 - 1, got {int(assignments.min())} to {int(assignments.max())}"
        )
    return assignments


class _Denominator(Function):
    """Log-sum-exp of the anchors by their shares, whose gradients are known before anything flows back: tiles are made once."""

    @staticmethod
    def forward(ctx, settings, shares, ids, query, keys, *layer):
        weigh = Gate(*layer) if ids is None else Disagreement(*ids)
        value, gradients = _summed(settings, shares, weigh, query, keys)
        ctx.save_for_backward(*gradients)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return None, None, None, *(grad * gradient for gradient in ctx.saved_tensors)


def _summed(
    settings: tuple[float, int, bool, bool],
    shares: Tensor,  # [n]
    weigh: Disagreement | Gate,
    query: Tensor,  # [n, d]
    keys: Tensor,  # [m, d]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The value, and its gradients with respect to queries, keys and what ``weigh`` was made of."""
    temperature, tile_entries, normalised, learn = settings
    width = max(1, min(tile_entries // max(1, len(keys)), _MOST, len(query)))
    held = [memory.empty(len(keys), width, query).view(-1) for _ in range(1 + normalised)]
    scaled, value = query / temperature, query.new_zeros(())
    near, far = torch.zeros_like(query), torch.zeros_like(keys)
    for start in range(0, len(query), width):
        stop = min(start + width, len(query))
        x, *plain = (each[: len(keys) * (stop - start)].view(len(keys), -1) for each in held)
        torch.mm(keys, scaled[start:stop].T, out=x)
        share = shares[start:stop]
        if normalised:  # log gamma by itself: its log-sum-exp is taken off
            (log,) = plain
            weigh.add_log(log.zero_(), start, stop)
            x += log
            top, plain_total = exp_columns(log)
            value -= share @ (top + (plain_total / len(keys)).log())
        else:
            weigh.add_log(x, start, stop)
        top, total = exp_columns(x)
        value += share @ (top + total.log())
        if learn:
            part = share / total
            near[start:stop] = (x.T @ keys) * (part / temperature)[:, None]
            far.addmm_(x, scaled[start:stop] * part[:, None])
            if normalised:
                x.mul_(1 / total).sub_(log.mul_(1 / plain_total))
            weigh.pull(x, share if normalised else part)
    return value, (near, far, *weigh.gradients)
