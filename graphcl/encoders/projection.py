"""Typed features to one width: what heterogeneous encoders start from."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from graphcl.ops import Operator, gather_rows


def parameter_key(name: str) -> str:
    """Where a node type's parameter is kept: no module has such an attribute, whatever the type is called ("items", "a.b")."""
    return "of " + name.replace("%", "%25").replace(".", "%2E")


class Projection(nn.Module):
    """``ELU(dropout(W_t x_t + b_t))`` for each type t.

    A type with features has a matrix of their width; one without has an embedding table of a row a node, which is the same map of
    an identity matrix that nobody builds.

    ``init``: "linear" is torch's own for a linear layer, "xavier" a normal one of gain 1.414 with zero bias.

    Source: jianxiangyu/MEOW@6a072d7 and liun-online/HeCo@20e8ca2, where dropout stands inside the activation too.
    """

    def __init__(self, widths: Mapping[str, int], dim: int, dropout: float = 0.0, init: str = "linear"):
        super().__init__()
        if init not in ("linear", "xavier"):
            raise ValueError(f"init must be linear or xavier, got {init!r}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {dropout}")
        self.dropout = dropout
        self.weights, self.biases = nn.ParameterDict(), nn.ParameterDict()
        for name, width in widths.items():
            bound = width**-0.5
            weight = torch.empty(width, dim)
            if init == "linear":
                nn.init.uniform_(weight, -bound, bound)
                bias = torch.empty(dim).uniform_(-bound, bound)
            else:
                nn.init.xavier_normal_(weight, gain=1.414)
                bias = torch.zeros(dim)
            key = parameter_key(name)
            self.weights[key], self.biases[key] = nn.Parameter(weight), nn.Parameter(bias)

    def forward(
        self, name: str, x: Operator | Tensor | None, *, drops: bool = True, rows: Tensor | None = None
    ) -> Tensor:  # [n, f] -> [n, d]
        """``x`` None: the type has no features. ``drops=False`` leaves dropout out. ``rows`` [b]: of these nodes alone."""
        weight = self.weights[parameter_key(name)]
        if rows is not None and x is not None:
            x = x[rows] if isinstance(x, Tensor) else x.rows(rows)
        table = weight if rows is None or x is not None else gather_rows(weight, rows)
        h = (table if x is None else x @ table) + self.biases[parameter_key(name)]
        return functional.elu(functional.dropout(h, self.dropout, self.training and drops))
