"""Log-sum-exp of each anchor over many keys, by tiles: the logits [n, m] are never held.

    lse[i] = log sum_j exp(<q_i, k_j> / t + bias_j)                    j not banned for i
    dq[i]  = g[i] / t * sum_j p_ij k_j        dk[j] = 1 / t * sum_i g[i] p_ij q_i        p_ij = exp(logit_ij - lse[i])

Both gradients need p. dq[i] is known but for g[i] once the row is summed; dk needs g, which comes later. A caller who knows how the
anchors will be weighed (``weights``, in proportion to g) has dk gathered in the forward: three matrix products and one exponential
for each logit. Else tiles are computed again in the backward: five products and two exponentials.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from graphcl.ops import exp_columns, memory

Entries = tuple[Tensor, Tensor]  # rows and columns of some entries of [n, m]

_LEAST, _MOST = 32, 512  # anchors of a block: with fewer, adding to dk costs more than computing again; more gain nothing
_KEYS = 4096  # of a tile within a block: such a tile fits the second cache level


def log_sum_exp(
    query: Tensor,  # [n, d]
    keys: Tensor,  # [m, d]
    temperature: float,
    *,
    tile_entries: int,  # logits held at a time
    bias: Tensor | None = None,  # [m]
    banned: Entries | None = None,
    weights: Tensor | None = None,  # [n] in proportion to what will flow back, if that is known
) -> Tensor:  # [n]; -inf for an anchor without keys
    count = min(tile_entries // max(1, len(keys)), _MOST, len(query))
    if weights is not None and count >= min(_LEAST, len(query)) and torch.is_grad_enabled():
        return _OnePass.apply(query, keys, temperature, count, tile_entries, bias, banned, weights.detach().to(query.dtype))
    return _Recomputed.apply(query, keys, temperature, tile_entries, bias, banned)


def joined(parts: list[Tensor]) -> Tensor:
    """Log of the sum of exponentials, part by part; -inf, without a gradient, where every part is."""
    if len(parts) == 1:
        return parts[0]
    values = torch.stack(parts)
    top = values.detach().amax(0)
    top = torch.where(top == -torch.inf, 0.0, top)
    total = (values - top).exp().sum(0)
    some = total != 0  # NaN stays, to be seen
    return torch.where(some, top + torch.where(some, total, 1.0).log(), -torch.inf)


def _by(banned: Entries | None, which: int) -> Entries | None:
    """Entries in order of rows (0) or columns (1)."""
    if banned is None:
        return None
    order = banned[which].argsort(stable=True)
    return banned[0][order], banned[1][order]


def _within(banned: Entries | None, which: int, start: int, stop: int) -> Entries | None:
    """Those of ordered entries whose row (0) or column (1) lies in start..stop, counted from there."""
    if banned is None:
        return None
    a, b = torch.searchsorted(banned[which], torch.tensor([start, stop], device=banned[which].device)).tolist()
    rows, columns = banned[0][a:b], banned[1][a:b]
    return (rows - start, columns) if which == 0 else (rows, columns - start)


def _logits(
    scaled: Tensor, keys: Tensor, bias: Tensor | None, banned: Entries | None, span: tuple[int, int], out: Tensor
) -> Tensor:
    """Of the keys in ``span`` with all anchors, [keys, anchors]; ``banned`` in order of columns."""
    first, last = span
    torch.mm(keys[first:last], scaled.T, out=out)
    if bias is not None:
        out += bias[first:last, None]
    here = _within(banned, 1, first, last)
    if here is not None:
        out[here[1], here[0]] = -torch.inf
    return out


def _spans(count: int, width: int) -> list[tuple[int, int]]:
    return [(first, min(first + width, count)) for first in range(0, count, width)]


class _OnePass(Function):
    """Blocks of anchors against all keys. Each tile of keys in a block has a shift of its own, told of in ``shares``."""

    @staticmethod
    def forward(ctx, q, keys, temperature, count, tile_entries, bias, banned, weights):
        held = memory.empty(len(keys), max(1, count), q).view(-1)
        scaled, weighed = q / temperature, q * (weights / temperature)[:, None]
        lse, near, far = q.new_empty(len(q)), torch.zeros_like(q), torch.zeros_like(keys)
        spans, by_row = _spans(len(keys), _KEYS), _by(banned, 0)
        for start, stop in _spans(len(q), max(1, count)):
            left_out = _by(_within(by_row, 0, start, stop), 1)
            n = stop - start
            tiles = [held[first * n : last * n].view(last - first, n) for first, last in spans]
            found = [
                exp_columns(_logits(scaled[start:stop], keys, bias, left_out, span, tile))
                for span, tile in zip(spans, tiles, strict=True)
            ]
            if not found:  # there are no keys
                lse.fill_(-torch.inf)
                break
            tops, totals = (torch.stack(each) for each in zip(*found, strict=True))  # [tiles, n]
            lse[start:stop] = (tops + totals.log()).logsumexp(0)
            # exp(logit - lse) is the tile's entry times this; 0 for an anchor without any key
            shares = torch.where(totals > 0, (tops - lse[start:stop]).exp(), 0.0)[:, :, None]
            for (first, last), tile, share in zip(spans, tiles, shares, strict=True):
                near[start:stop].addcmul_(tile.T @ keys[first:last], share, value=1 / temperature)
                far[first:last].addmm_(tile, weighed[start:stop] * share)
        ctx.save_for_backward(q, keys, lse, near, far, weights)
        ctx.rest = temperature, tile_entries, bias, banned
        return lse

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        q, keys, lse, near, far, weights = ctx.saved_tensors
        temperature, tile_entries, bias, banned = ctx.rest
        if not len(q):
            return torch.zeros_like(q), torch.zeros_like(keys), *[None] * 6
        factor = (grad @ weights) / (weights @ weights).clamp_min(torch.finfo(grad.dtype).tiny)
        if torch.allclose(grad, factor * weights, rtol=1e-5, atol=1e-6 * float(grad.abs().max())):
            return grad[:, None] * near, far * factor, *[None] * 6
        return *_gradients(q, keys, lse, grad, temperature, tile_entries, bias, banned), *[None] * 6


class _Recomputed(Function):
    """Tiles of keys against all anchors."""

    @staticmethod
    def forward(ctx, q, keys, temperature, tile_entries, bias, banned):
        lse = q.new_full((len(q),), -torch.inf)
        for _, logits in _tiles(q, keys, temperature, tile_entries, bias, banned):
            top, total = exp_columns(logits)
            lse = torch.logaddexp(lse, top + total.log())
        ctx.save_for_backward(q, keys, lse)
        ctx.rest = temperature, tile_entries, bias, banned
        return lse

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        q, keys, lse = ctx.saved_tensors
        temperature, tile_entries, bias, banned = ctx.rest
        return *_gradients(q, keys, lse, grad, temperature, tile_entries, bias, banned), *[None] * 4


def _tiles(q, keys, temperature, tile_entries, bias, banned):
    width = max(1, tile_entries // max(1, len(q)))
    scaled, banned = q / temperature, _by(banned, 1)
    held = memory.empty(min(width, len(keys)), len(q), q)
    for first, last in _spans(len(keys), width):
        yield (first, last), _logits(scaled, keys, bias, banned, (first, last), held[: last - first])


def _gradients(q, keys, lse, grad, temperature, tile_entries, bias, banned):
    shift = torch.where(lse == -torch.inf, 0.0, lse)  # an anchor without any key has no gradient
    weighed = q * (grad / temperature)[:, None]
    near, far = torch.zeros_like(q), torch.empty_like(keys)
    for (first, last), share in _tiles(q, keys, temperature, tile_entries, bias, banned):
        exp_columns(share, shift)
        near.addmm_(share.T, keys[first:last])
        torch.mm(share, weighed, out=far[first:last])
    return near.mul_((grad / temperature)[:, None]), far
