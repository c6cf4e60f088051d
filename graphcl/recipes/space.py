"""Search spaces: which settings of a recipe may be searched, and between which bounds.

A recipe states ``SPACE``, a literal dict from settings to a range ``(low, high)``, a range on a logarithmic scale
``(low, high, "log")``, bounds included, or a list of choices. One that states none is searched over the ``KNOWN`` settings it has.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from types import ModuleType
from typing import Any, TypeAlias

from graphcl.data.nearest import nearest
from graphcl.recipes.configure import cast

Bounds: TypeAlias = tuple | list  # (low, high), (low, high, "log") or [choice, ...]

# For recipes of one's own. Widths and batches are left out: a larger one costs more, which a score doesn't show.
KNOWN: dict[str, Bounds] = {
    "learning_rate": (5e-4, 1e-2, "log"),
    "num_layers": (1, 4),
    "weight": (1e-3, 1.0, "log"),
    "temperature": (0.05, 1.0, "log"),
    "eps": (0.01, 0.5, "log"),
    "fraction": (0.05, 0.5),
    "dropout": (0.0, 0.5),
    "decay": (1e-6, 1e-2, "log"),
    "l2": (10.0, 5000.0, "log"),
}


def stated(recipe: ModuleType) -> dict[str, Bounds]:
    """The recipe's ``SPACE``, or what is known of its settings."""
    fields = typing.get_type_hints(recipe.Config)
    found = vars(recipe).get("SPACE", {key: bounds for key, bounds in KNOWN.items() if key in fields})
    return checked(recipe, found)


def checked(recipe: ModuleType, space: Mapping[str, Bounds]) -> dict[str, Bounds]:
    """``space`` with every bound (perhaps text) as its setting's type.

    Raises:
        ValueError: an unknown setting (the nearest is told), a value of another type, an empty range, one choice or none.
    """
    fields = typing.get_type_hints(recipe.Config)
    found: dict[str, Bounds] = {}
    for key, bounds in space.items():
        if key not in fields:
            short = recipe.__name__.rpartition(".")[2]
            raise ValueError(f"unknown setting {key!r} of {short}{nearest(key, fields)}; known: {', '.join(fields)}")
        found[key] = _choices(key, bounds, fields[key]) if isinstance(bounds, list) else _range(key, bounds, fields[key])
    return found


def parse(text: str) -> tuple[str, Bounds]:
    """A setting and its bounds from ``KEY=LOW:HIGH``, ``KEY=LOW:HIGH:log`` or ``KEY=a,b,c``; values stay text."""
    key, _, value = text.partition("=")
    parts = [part.strip() for part in value.split(":")]
    if key.strip() and "," in value:
        return key.strip(), [choice.strip() for choice in value.split(",")]
    if key.strip() and (len(parts) == 2 or (len(parts) == 3 and parts[2] == "log")):
        return key.strip(), tuple(parts)
    raise ValueError(f"--space takes KEY=LOW:HIGH, KEY=LOW:HIGH:log or KEY=a,b,c, got {text!r}")


def _choices(key: str, choices: list, kind: Any) -> list:
    found = [cast(key, choice, kind) for choice in choices]
    if len(found) < 2 or len(set(found)) < len(found):
        raise ValueError(f"the choices of {key!r} must be two or more, none twice, got {', '.join(map(str, found)) or 'none'}")
    return found


def _range(key: str, bounds: tuple, kind: Any) -> tuple:
    options = [o for o in typing.get_args(kind) if o is not types.NoneType] or [kind]
    if not all(o in (int, float) for o in options):
        raise ValueError(f"setting {key!r} has no range; list its values ({key}=a,b)")
    if not (isinstance(bounds, tuple) and len(bounds) in (2, 3) and bounds[2:] in ((), ("log",))):
        raise ValueError(f"the space of {key!r} must be (low, high), (low, high, 'log') or a list of choices, got {bounds!r}")
    low, high = (cast(key, bound, options[0]) for bound in bounds[:2])
    if not low < high:
        raise ValueError(f"the range of {key!r} must go from low to high, got {low} to {high}")
    if bounds[2:] and not low > 0:
        raise ValueError(f"a logarithmic range must begin above 0, and that of {key!r} begins at {low}")
    return low, high, *bounds[2:]
