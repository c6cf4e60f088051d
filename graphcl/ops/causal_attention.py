"""Causal attention within packed segments. On CPU real pairs alone, nothing padded, dropout as a function of (key, pair):

    p_ij = softmax_j (<q_i, k_j> / sqrt(w)),  j <= i of the same segment        out_i = sum_j keep_ij p_ij v_j / (1 - share)

of each head, w its width. Only p is kept for the backward: a number a pair and head. On short histories the padded rows that torch's
attention wants cost several times what the pairs do. Elsewhere segments are padded to the longest for torch's kernels.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from graphcl.ops.counter import column_bits, draw_key, halves, row_state
from graphcl.ops.segment import pointers_of

# A segment is one thread's, summed in a fixed order. Heads' width is no constant to the kernels: loops of one known at compile time
# are unrolled before they can be vectorised, and take twice as long.
_FAST = {"contract", "nsz", "reassoc", "arcp"}
_LEVELS = 2**32


def causal_attention(
    qkv: Tensor,  # [n, 3 d]: query, key and value, the heads side by side in each
    pointers: Tensor,  # [S + 1]
    num_heads: int,
    share: float = 0.0,  # of the weights that are dropped
    *,
    longest: int,  # no segment is longer
) -> Tensor:  # [n, d]
    """Each token of a segment ``pointers[s]:pointers[s + 1]`` attends to those before it and itself.

    Draws from torch's global generator, see ``streams.borrowed``.
    """
    if qkv.device.type == "cpu":
        return _CausalAttention.apply(qkv, pointers, num_heads, share)
    return _padded(qkv, pointers, num_heads, share, longest)


def _padded(qkv: Tensor, pointers: Tensor, num_heads: int, share: float, longest: int) -> Tensor:
    token = torch.arange(len(qkv), device=qkv.device)
    segment = torch.searchsorted(pointers, token, right=True) - 1
    places, rows = token + segment * longest - pointers[segment], len(pointers) - 1
    whole = qkv.new_zeros(rows * longest, qkv.shape[1]).index_copy(0, places, qkv)
    q, k, v = whole.view(rows, longest, 3, num_heads, -1).permute(2, 0, 3, 1, 4)
    found = F.scaled_dot_product_attention(q, k, v, dropout_p=share, is_causal=True)
    return found.transpose(1, 2).reshape(rows * longest, -1).index_select(0, places)


class _CausalAttention(Function):
    @staticmethod
    def forward(ctx, qkv, pointers, num_heads, share):
        qkv, lengths = qkv.contiguous(), pointers.diff()
        pairs = pointers_of(lengths * (lengths + 1) // 2)
        weights, out = qkv.new_empty(num_heads, int(pairs[-1])), qkv.new_empty(len(qkv), qkv.shape[1] // 3)
        ctx.rest = num_heads, share, draw_key(torch.default_generator) if share else 0
        ctx.save_for_backward(qkv, pointers, pairs, weights)
        _forward(*_arrays(qkv, pointers, pairs, weights, *ctx.rest), _by_head(out, num_heads))  # type: ignore[call-arg]
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        qkv, pointers, pairs, weights = ctx.saved_tensors
        num_heads, *_ = ctx.rest
        found = torch.zeros_like(qkv)
        to_heads = _by_head(grad.contiguous(), num_heads), _by_head(found, 3, num_heads)
        _backward(*_arrays(qkv, pointers, pairs, weights, *ctx.rest), *to_heads)  # type: ignore[call-arg]
        return found, None, None, None


def _arrays(qkv, pointers, pairs, weights, num_heads, share, drawn):  # type: ignore[no-untyped-def]
    kind = weights.numpy().dtype.type
    cut = round(share * _LEVELS)
    scale, grown = kind(1 / math.sqrt(qkv.shape[1] // (3 * num_heads))), kind(_LEVELS / (_LEVELS - cut))
    return (
        _by_head(qkv, 3, num_heads),
        pointers.numpy(),
        pairs.numpy(),
        weights.numpy(),
        scale,
        grown,
        np.uint32(cut),
        *halves(drawn),
    )


def _by_head(x: Tensor, *parts: int) -> np.ndarray:  # [n, c] -> [n, *parts, width]
    return x.detach().view(len(x), *parts, x.shape[1] // math.prod(parts)).numpy()


@numba.njit(parallel=True, fastmath=_FAST, cache=True, boundscheck=False)
def _forward(qkv, pointers, pairs, weights, scale, grown, cut, low, high, out):  # type: ignore[no-untyped-def]
    num_heads, width = qkv.shape[2:]
    for segment in numba.prange(len(pointers) - 1):
        first, stop = pointers[segment], pointers[segment + 1]
        query, mixed = np.empty(width, qkv.dtype), np.empty(width, qkv.dtype)
        for head in range(num_heads):
            pair = pairs[segment]
            for i in range(first, stop):
                for c in range(width):
                    query[c] = qkv[i, 0, head, c] * scale
                    mixed[c] = 0
                top = qkv.dtype.type(-np.inf)
                for j in range(first, i + 1):
                    score = qkv.dtype.type(0)
                    for c in range(width):
                        score += query[c] * qkv[j, 1, head, c]
                    weights[head, pair + j - first] = score
                    top = max(top, score)
                total = qkv.dtype.type(0)
                for place in range(pair, pair + i - first + 1):
                    e = np.exp(qkv.dtype.type(weights[head, place] - top))
                    weights[head, place] = e
                    total += e
                share = qkv.dtype.type(1) / total
                state = row_state(low, high, i * num_heads + head)
                for j in range(first, i + 1):
                    p = weights[head, pair + j - first] * share
                    weights[head, pair + j - first] = p
                    if cut and column_bits(state, j - first) < cut:
                        continue
                    p *= grown
                    for c in range(width):
                        mixed[c] += p * qkv[j, 2, head, c]
                for c in range(width):
                    out[i, head, c] = mixed[c]
                pair += i - first + 1


@numba.njit(parallel=True, fastmath=_FAST, cache=True, boundscheck=False)
def _backward(qkv, pointers, pairs, weights, scale, grown, cut, low, high, grad, found):  # type: ignore[no-untyped-def]
    num_heads, width = qkv.shape[2:]
    for segment in numba.prange(len(pointers) - 1):
        first, stop = pointers[segment], pointers[segment + 1]
        flow = np.empty(stop - first, qkv.dtype)  # to the weights of a query
        query, given, moved = np.empty(width, qkv.dtype), np.empty(width, qkv.dtype), np.empty(width, qkv.dtype)
        for head in range(num_heads):
            pair = pairs[segment]
            for i in range(first, stop):
                for c in range(width):
                    query[c], given[c], moved[c] = qkv[i, 0, head, c], grad[i, head, c], 0
                mean = qkv.dtype.type(0)
                state = row_state(low, high, i * num_heads + head)
                for j in range(first, i + 1):
                    p = weights[head, pair + j - first]
                    if cut and column_bits(state, j - first) < cut:
                        flow[j - first] = 0
                        continue
                    towards = qkv.dtype.type(0)
                    for c in range(width):
                        towards += given[c] * qkv[j, 2, head, c]
                    for c in range(width):
                        found[j, 2, head, c] += grown * p * given[c]
                    flow[j - first] = grown * towards
                    mean += p * grown * towards
                for j in range(first, i + 1):
                    ds = weights[head, pair + j - first] * (flow[j - first] - mean) * scale
                    for c in range(width):
                        moved[c] += ds * qkv[j, 1, head, c]
                    for c in range(width):
                        found[j, 1, head, c] += ds * query[c]
                for c in range(width):
                    found[i, 0, head, c] = moved[c]
                pair += i - first + 1
