"""Weights of pairs (key j, anchor i), whose logarithms are added to a tile of logits [m, n].

    Disagreement:  log(K - number of clusterings under which i and j stand together); -inf where they always do
    Gate:          log sigmoid(z_ji),   z_ji = bias + sum_k weight_k tanh(a_ik + b_jk)

tanh(a + b) = 1 - 2 / (1 + e^2a e^2b). With e^2a and e^2b known for each row, a unit costs a pair no exponential, and two units share
one division. On one thread of an AMD EPYC, 16 units: 1.8 ns a pair for the logarithm, 3.4 ns for the gradients.

Kernels serve float32 on CPU, torch serves the rest and holds a few tiles. Keys are cut into a fixed number of parts, each with sums of its
own, so nothing depends on the number of threads.
"""

from __future__ import annotations

import numba
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from graphcl.ops import memory
from graphcl.ops.exponential import exp_float32

_F = np.float32
_FAST = {"contract", "nsz", "reassoc", "arcp"}
_PARTS = 16
_REACH = 10.5  # of |a| and |b|: four exponentials up to e^21 and two additions are multiplied within float32
_A3, _A5, _A7, _A9, _A11 = _F(1 / 3), _F(1 / 5), _F(1 / 7), _F(1 / 9), _F(1 / 11)  # atanh(s) = s + s^3 / 3 + ...


def _fits(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32


class Disagreement:
    """Weights by cluster ids, which are constants."""

    gradients = ()

    def __init__(self, anchors: Tensor, keys: Tensor):  # [n, K], [m, K]; ids that fit int32
        self._anchors, self._keys = anchors.int(), keys.int().contiguous()
        self._logs = torch.arange(keys.shape[1], -1, -1, device=keys.device).double().log()  # by the number of agreements

    def add_log(self, x: Tensor, start: int, stop: int) -> None:
        """To logits [m, stop - start] of the anchors from ``start``, in place."""
        anchors, logs = self._anchors[start:stop].T.contiguous(), self._logs.to(x.dtype)
        if _fits(x):
            _add_disagreement(x.numpy(), anchors.numpy(), self._keys.numpy(), logs.numpy())
            return
        same = torch.zeros(x.shape, dtype=torch.int64, device=x.device)
        for ids, of in zip(self._keys.T, anchors, strict=True):
            same += ids[:, None] == of
        x += logs[same]

    def pull(self, flow: Tensor, scale: Tensor) -> None:
        """Nothing learns from it."""


@numba.njit(parallel=True, fastmath=_FAST, cache=True, boundscheck=False)
def _add_disagreement(x, anchors, keys, logs):  # [m, n], [K, n], [m, K], [K + 1]
    for part in numba.prange(_PARTS):
        same = np.empty(x.shape[1], np.int32)
        for j in range(part * len(x) // _PARTS, (part + 1) * len(x) // _PARTS):
            same[:] = 0
            for k in range(len(anchors)):
                own = keys[j, k]
                for i in range(x.shape[1]):
                    same[i] += anchors[k, i] == own
            row = x[j]
            for i in range(x.shape[1]):
                row[i] += logs[same[i]]


class Gate:
    """Weights by a layer of tanh units."""

    def __init__(
        self,
        anchors: Tensor,  # [n, h] a
        keys: Tensor,  # [m, h] b
        weight: Tensor,  # [h]
        bias: Tensor,  # []
    ):
        middle = [(x.amax(0) + x.amin(0)) / 2 if len(x) else x.new_zeros(x.shape[1]) for x in (anchors, keys)]
        shift = (middle[1] - middle[0]) / 2  # a + shift and b - shift have the same sums and the smallest exponentials
        self._anchors, self._keys, self._weight, self._bias = anchors + shift, keys - shift, weight, bias
        self._kernel = _fits(keys) and all(bool((x.abs() <= _REACH).all()) for x in (self._anchors, self._keys))
        if self._kernel:
            odd = (0, len(weight) % 2)  # a unit of weight 0 makes pairs of all
            self._grown = [F.pad((2 * x).exp(), odd).contiguous() for x in (self._anchors, self._keys)]
            self._heavy = F.pad(weight, odd).numpy()
        self._near, self._far = torch.zeros_like(anchors), torch.zeros_like(keys)
        self._of_weight, self._of_bias = torch.zeros_like(weight), torch.zeros_like(bias)

    @property
    def gradients(self) -> tuple[Tensor, ...]:
        """Of anchors, keys, weight and bias, from all pulls."""
        return self._near, self._far, self._of_weight, self._of_bias

    def add_log(self, x: Tensor, start: int, stop: int) -> None:
        """To logits [m, stop - start] of the anchors from ``start``, in place."""
        self._span = slice(start, stop)
        if self._kernel:
            self._closed = memory.empty(len(x), stop - start, x)
            zero = _F(float(self._bias + self._weight.sum()))
            anchors, keys = (grown.numpy() for grown in self._of_span())
            _add_gate(x.numpy(), self._closed.numpy(), anchors, keys, self._heavy, zero)
            return
        z = self._bias.expand(x.shape).clone()
        for k in range(len(self._weight)):
            z += self._weight[k] * self._unit(k)
        x += F.logsigmoid(z)
        self._closed = z.neg_().sigmoid_()

    def pull(self, flow: Tensor, scale: Tensor) -> None:
        """Gathers the gradients where ``flow * scale`` [m, n] * [n] flows back to the logarithms that were added last."""
        if self._kernel:
            self._pull_kernel(flow, scale)
            return
        dz, span = flow * self._closed * scale, self._span
        self._of_bias += dz.sum()
        for k in range(len(self._weight)):
            tanh = self._unit(k)
            self._of_weight[k] += (dz * tanh).sum()
            slope = dz * self._weight[k] * (1 - tanh.square())
            self._near[span, k] += slope.sum(0)
            self._far[:, k] += slope.sum(1)

    def _unit(self, k: int) -> Tensor:
        return (self._keys[:, k, None] + self._anchors[self._span, k]).tanh()

    def _of_span(self) -> tuple[Tensor, Tensor]:
        """e^2a of the last tile's anchors [h, n] and e^2b of all keys [m, h]."""
        return self._grown[0][self._span].T.contiguous(), self._grown[1]

    def _pull_kernel(self, flow: Tensor, scale: Tensor) -> None:
        anchors, keys = self._of_span()
        near, sums = flow.new_zeros((_PARTS, *anchors.shape)), flow.new_zeros((_PARTS, len(anchors) + 1))
        far = torch.empty_like(keys)
        _pull_gate(*(each.numpy() for each in (flow, self._closed, scale, anchors, keys, near, far, sums)))
        units, total = len(self._weight), sums.sum(0)
        # With r = 1 / (1 + e^2a e^2b): tanh = 1 - 2 r, and its slope is 4 r (1 - r).
        self._near[self._span] += near.sum(0).T[:, :units] * (4 * self._weight)
        self._far += far[:, :units] * (4 * self._weight)
        self._of_bias += total[-1]
        self._of_weight += total[-1] - 2 * total[:units]


@numba.njit(parallel=True, fastmath=_FAST, cache=True, boundscheck=False)
def _add_gate(x, closed, anchors, keys, weight, zero):  # [m, n], [m, n], [h, n], [m, h], [h], z where every unit is at 1
    n = x.shape[1]
    for part in numba.prange(_PARTS):
        z = np.empty(n, np.float32)
        for j in range(part * len(x) // _PARTS, (part + 1) * len(x) // _PARTS):
            z[:] = zero
            for k in range(0, len(weight), 2):
                b0, b1, w0, w1 = keys[j, k], keys[j, k + 1], _F(2) * weight[k], _F(2) * weight[k + 1]
                for i in range(n):
                    p0, p1 = _F(1) + anchors[k, i] * b0, _F(1) + anchors[k + 1, i] * b1
                    z[i] -= (w0 * p1 + w1 * p0) / (p0 * p1)
            row, shut = x[j], closed[j]
            for i in range(n):
                v = z[i]
                u = exp_float32(-abs(v))
                s = u / (_F(2) + u)  # log(1 + u) = 2 atanh(s), s at most 1/3
                q = s * s
                log = _F(2) * s * (((((_A11 * q + _A9) * q + _A7) * q + _A5) * q + _A3) * q + _F(1))
                row[i] += min(v, _F(0)) - log
                shut[i] = (u if v >= _F(0) else _F(1)) / (_F(1) + u)


@numba.njit(parallel=True, fastmath=_FAST, cache=True, boundscheck=False)
def _pull_gate(flow, closed, scale, anchors, keys, near, far, sums):  # ..., [parts, h, n], [m, h], [parts, h + 1]
    units, n = anchors.shape
    for part in numba.prange(_PARTS):
        dz, y, slope = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.float32)
        for j in range(part * len(flow) // _PARTS, (part + 1) * len(flow) // _PARTS):
            total = _F(0)
            for i in range(n):
                dz[i] = flow[j, i] * closed[j, i] * scale[i]
            for i in range(n):
                total += dz[i]
            sums[part, units] += total
            for k in range(units):
                b, added, share = keys[j, k], _F(0), _F(0)
                a, row = anchors[k], near[part, k]
                for i in range(n):
                    r = _F(1) / (_F(1) + a[i] * b)
                    y[i] = dz[i] * r
                    slope[i] = y[i] - y[i] * r
                for i in range(n):  # what is added up is read: sums of products are rounded otherwise by code from numba's cache
                    row[i] += slope[i]
                    added += slope[i]
                    share += y[i]
                far[j, k] = added
                sums[part, k] += share
