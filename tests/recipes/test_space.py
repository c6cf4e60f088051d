"""Search spaces: what recipes state, and what a user gives."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Literal

import pytest

from graphcl.recipes import RECIPES, space
from graphcl.recipes.configure import find


@dataclass(frozen=True)
class Config:
    num_layers: int = 2
    eps: float = 0.1
    drop: Literal["ed", "nd"] = "ed"
    fast: bool = False
    most: int | None = None


toy = SimpleNamespace(__name__="my.toy", Config=Config)


@pytest.mark.parametrize("name", list(RECIPES))
def test_the_settings_of_a_recipe_lie_in_its_space(name):
    """Else the search would begin elsewhere than at the paper's."""
    module = find(name)
    for key, bounds in space.stated(module).items():
        assert "SPACE" in vars(module)
        for settings in ({}, *module.PRESETS.values()):
            value = getattr(module.Config(**settings), key)
            inside = value in bounds if isinstance(bounds, list) else bounds[0] <= value <= bounds[1]
            assert inside, f"{key}={value} is outside {bounds}"
            assert type(bounds[0]) is type(bounds[1]) is type(value)


def test_a_recipe_without_a_space_is_searched_over_what_is_known():
    assert space.stated(toy) == {"num_layers": (1, 4), "eps": (0.01, 0.5, "log")}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("eps=0.1:0.4", (0.1, 0.4)),
        ("eps=1e-3:1:log", (1e-3, 1.0, "log")),
        ("num_layers=1:3", (1, 3)),
        ("num_layers=1,3", [1, 3]),
        ("most=1:5", (1, 5)),
        ("most=none,5", [None, 5]),
        ("drop=ed,nd", ["ed", "nd"]),
        ("fast=true,false", [True, False]),
        (" eps = 0.1 : 0.4", (0.1, 0.4)),
    ],
)
def test_bounds_are_read_as_the_type_of_the_setting(text, wanted):
    key, bounds = space.parse(text)
    (found,) = space.checked(toy, {key: bounds}).values()
    assert found == wanted
    assert [type(bound) for bound in found] == [type(bound) for bound in wanted]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("eps", r"--space takes KEY=LOW:HIGH, KEY=LOW:HIGH:log or KEY=a,b,c, got 'eps'"),
        ("eps=0.1", "--space takes"),
        ("=1:2", "--space takes"),
        ("eps=1:2:linear", "--space takes"),
        ("epps=1:2", r"unknown setting 'epps' of toy; did you mean 'eps'\?"),
        ("eps=a:2", "setting 'eps' must be a number, got 'a'"),
        ("num_layers=1:2.5", "setting 'num_layers' must be int, got '2.5'"),
        ("eps=2:1", r"the range of 'eps' must go from low to high, got 2\.0 to 1\.0"),
        ("eps=1:1", "must go from low to high"),
        ("eps=0:1:log", r"a logarithmic range must begin above 0, and that of 'eps' begins at 0\.0"),
        ("drop=ed:nd", r"setting 'drop' has no range; list its values \(drop=a,b\)"),
        ("fast=0:1", "setting 'fast' has no range"),
        ("drop=ed,rw", "setting 'drop' must be one of ed, nd, got 'rw'"),
        ("drop=ed,ed", "the choices of 'drop' must be two or more, none twice, got ed, ed"),
    ],
)
def test_bounds_that_cannot_be(text, told):
    with pytest.raises(ValueError, match=told):
        space.checked(toy, dict([space.parse(text)]))


@pytest.mark.parametrize("bounds", [(1,), (1, 2, "lin"), (1, 2, "log", 3), 7])
def test_a_recipe_that_states_nonsense_is_told(bounds):
    with pytest.raises(ValueError, match=r"the space of 'eps' must be \(low, high\)"):
        space.checked(toy, {"eps": bounds})
    with pytest.raises(ValueError, match="must be two or more"):
        space.checked(toy, {"eps": [1]})
