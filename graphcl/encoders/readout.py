"""From layers to one vector a row. All of these work row by row, so rows may be chosen first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from graphcl.contracts import Layers


def _at_least(least: int, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < least:
            raise ValueError(f"{name} must be {least} or more, got {number}")


def _total(layers: Layers, first: int) -> Tensor:
    if first >= len(layers):
        raise ValueError(f"layers from {first} on are read, but the encoder has num_layers {len(layers) - 1}")
    total = layers[first]
    for h in layers.each[first + 1 :]:
        total = total + h
    return total


@dataclass(frozen=True)
class mean:
    """Average of layers ``first``..L: 0 for LightGCN, 1 for SimGCL and XSimGCL."""

    first: int = 0

    def __post_init__(self) -> None:
        _at_least(0, first=self.first)

    def __call__(self, layers: Layers) -> Tensor:
        return _total(layers, self.first) / (len(layers) - self.first)


@dataclass(frozen=True)
class total:
    """Sum of layers ``first``..L (LightGCL)."""

    first: int = 0

    def __post_init__(self) -> None:
        _at_least(0, first=self.first)

    def __call__(self, layers: Layers) -> Tensor:
        return _total(layers, self.first)


@dataclass(frozen=True)
class layer:
    """One layer's output (XSimGCL's contrast, NCL)."""

    index: int

    def __call__(self, layers: Layers) -> Tensor:
        return layers[self.index]


@dataclass(frozen=True)
class increment:
    """What a layer adds to the one before: ``E(l) - E(l-1)``, which in a residual encoder is the layer without its skip (l >= 1)."""

    index: int

    def __post_init__(self) -> None:
        _at_least(1, index=self.index)

    def __call__(self, layers: Layers) -> Tensor:
        return layers[self.index] - layers[self.index - 1]


@dataclass(frozen=True)
class blend:
    """``weight * E0 + (1 - weight) * mean(E1..EL)`` (LightGCN++)."""

    weight: float
    first: ClassVar[int] = 1  # of the layers that there must be

    def __call__(self, layers: Layers) -> Tensor:
        return self.weight * layers[0] + (1 - self.weight) * mean(self.first)(layers)
