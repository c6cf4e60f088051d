"""The examples run, on the planted graph."""

import importlib.util
from pathlib import Path

import pytest

from graphcl.planted import planted
from tests.test_pretrain import FAST, folder

EXAMPLES = Path(__file__).parents[1] / "examples"


def loaded(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def source(tmp_path):
    return str(folder(tmp_path / "toy", planted()))


def test_finetune(source, tmp_path):
    found = loaded("finetune").finetune(source, pretraining=5, epochs=40, out=tmp_path / "run")
    assert found["valid"] > 0.6
    assert found["test"] > 0.6  # a third by chance


def test_frozen(source, tmp_path):
    scores = loaded("frozen").scores(source, out=tmp_path / "run", **FAST)
    assert len(scores) == 5
    assert scores.mean() > 0.5
