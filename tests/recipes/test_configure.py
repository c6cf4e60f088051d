"""Names and settings."""

import sys
import types
from dataclasses import dataclass
from typing import Literal

import pytest

from graphcl.recipes import RECIPES, lightgcn
from graphcl.recipes.configure import cast, configure, find, settings


@dataclass(frozen=True)
class Config:
    width: int = 8
    rate: float = 0.5
    fast: bool = False
    kind: Literal["a", "b"] = "a"
    name: str = "x"
    limit: int | None = None


toy = types.ModuleType("somewhere.toy")
toy.KIND, toy.Config, toy.build = "general", Config, lambda *_, **__: None


def test_each_layer_goes_over_the_one_before_and_is_recorded():
    config, sources = configure(
        toy,
        {
            "preset": {"width": 16, "rate": 0.1, "kind": "b"},
            "config": {"rate": 0.2, "fast": True},
            "set": {"rate": "0.3"},
        },
    )
    assert config == Config(width=16, rate=0.3, fast=True, kind="b")
    assert sources == {"width": "preset", "kind": "preset", "fast": "config", "rate": "set"}
    assert settings(config) == {"width": 16, "rate": 0.3, "fast": True, "kind": "b", "name": "x", "limit": None}


def test_no_layer_leaves_the_defaults():
    assert configure(toy, {}) == (Config(), {})


@pytest.mark.parametrize(
    ("key", "value", "kind", "wanted"),
    [
        ("n", "7", int, 7),
        ("n", "1e3", int, 1000),
        ("n", 7.0, int, 7),
        ("x", "1e-3", float, 1e-3),
        ("x", 2, float, 2.0),
        ("b", "True", bool, True),
        ("b", "no", bool, False),
        ("b", 0, bool, False),
        ("b", True, bool, True),
        ("s", "a=b", str, "a=b"),
        ("l", "b", Literal["a", "b"], "b"),
        ("o", "none", int | None, None),
        ("o", None, int | None, None),
        ("o", "3", int | None, 3),
    ],
)
def test_text_becomes_the_type_of_the_field(key, value, kind, wanted):
    found = cast(key, value, kind)
    assert found == wanted
    assert type(found) is type(wanted)


@pytest.mark.parametrize(
    ("value", "kind", "told"),
    [
        ("7.5", int, "'n' must be int, got '7.5'"),
        ("many", int, "'n' must be int, got 'many'"),
        ("nan", float, "'n' must be a number, got 'nan'"),
        ("inf", int, "'n' must be int, got 'inf'"),
        ([1], float, "'n' must be a number"),
        ("maybe", bool, "'n' must be bool, got 'maybe'"),
        ("c", Literal["a", "b"], "'n' must be one of a, b, got 'c'"),
        ("x", int | None, "'n' must be int, got 'x'"),
        ("class", tuple, "'n' must be JSON such as .*, got '.class.'"),
        ("(1, 2", tuple, "'n' must be JSON such as .*, got '.1, 2'"),
        ("A:7", dict, "'n' must be JSON such as .*, got 'A:7'"),
    ],
)
def test_a_value_of_another_type_is_refused(value, kind, told):
    with pytest.raises(ValueError, match=told):
        cast("n", value, kind)


def test_an_unknown_setting_names_the_nearest():
    with pytest.raises(ValueError, match=r"unknown setting 'widht' of toy; did you mean 'width'\?; known: width, rate, fast"):
        configure(toy, {"set": {"widht": 3}})


@pytest.mark.parametrize("name", list(RECIPES))
def test_every_registered_recipe_is_found_and_has_defaults(name):
    module = find(name)
    config, sources = configure(module, {})
    assert config == module.Config()
    assert sources == {}
    # What is written into a run directory comes back as the same settings.
    assert configure(module, {"run": settings(config)})[0] == config
    for preset in module.PRESETS.values():
        configure(module, {"preset": preset})


def test_a_recipe_by_its_path():
    assert find("graphcl.recipes.lightgcn") is find("lightgcn") is lightgcn


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(ValueError, match=r"unknown recipe 'ligthgcn'; did you mean 'lightgcn'\?; known: lightgcn, "):
        find("ligthgcn")


@pytest.mark.parametrize("name", ["./mine.py", "..", "lightgcn.", "", "a-b.c"])
def test_a_path_of_a_file_is_no_recipe(name):
    """The import system said of these that relative imports need a package."""
    with pytest.raises(ValueError, match="unknown recipe"):
        find(name)


def test_a_module_that_is_not_there():
    with pytest.raises(ValueError, match=r"recipe 'nowhere\.mine': no module named 'nowhere' can be imported"):
        find("nowhere.mine")
    with pytest.raises(ValueError, match=r"no module named 'graphcl\.recipes\.mine' can be imported"):
        find("graphcl.recipes.mine")


def test_a_module_that_misses_something_itself_says_what(tmp_path, monkeypatch):
    """Not that the recipe is missing, even where the names begin alike."""
    (tmp_path / "mine_pack").mkdir()
    (tmp_path / "mine_pack" / "recipe.py").write_text("import mine\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="No module named 'mine'"):
        find("mine_pack.recipe")


def test_a_module_that_is_no_recipe_says_what_it_lacks(monkeypatch):
    monkeypatch.setitem(sys.modules, "pack.other", types.ModuleType("pack.other"))
    with pytest.raises(ValueError, match=r"pack\.other is not a recipe: it lacks KIND"):
        find("pack.other")
