"""Benchmarks stay honest: configurations can run, and the README says what the results say."""

import importlib.util
import json
from pathlib import Path

import pytest

from graphcl.data.protocol import PROTOCOLS
from graphcl.data.registry import find as find_data
from graphcl.recipes.configure import configure, find

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "benchmarks" / "configs").glob("*.json"))
RESULTS = [path for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")) if "seeds" in json.loads(path.read_text())]


def table_module():
    spec = importlib.util.spec_from_file_location("table", ROOT / "benchmarks" / "table.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_configuration_names_what_exists(path):
    config = json.loads(path.read_text())
    module = find(config["recipe"])
    configure(module, {"settings": config["settings"]})
    for key, grid in config.get("grid", {}).items():
        for value in grid:
            configure(module, {"grid": {key: value}})
    assert find_data(config["data"]).name == config["data"]
    assert config["protocol"] in PROTOCOLS
    assert config["published"] is None or config["published"]["source"]


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_is_of_its_configuration(path):
    result = json.loads(path.read_text())
    config = json.loads((ROOT / "benchmarks" / "configs" / path.name).read_text())
    for key in ("recipe", "data", "protocol", "published"):
        assert result[key] == config[key]
    assert config["settings"].items() <= result["settings"].items()
    assert [seed["seed"] for seed in result["seeds"]] == config["seeds"]
    for key in ("recall@20", "ndcg@20"):
        values = [seed["metrics"]["test"][key] for seed in result["seeds"]]
        assert result["summary"][key]["mean"] == pytest.approx(sum(values) / len(values), rel=1e-12)


def test_the_readme_says_what_the_results_say():
    module = table_module()
    text = (ROOT / "README.md").read_text()
    assert module.with_table(text, module.table()) == text, "run: python benchmarks/table.py"
