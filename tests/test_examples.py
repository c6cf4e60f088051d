"""The examples run, on the planted graph and on made-up attributes."""

import gzip
import importlib.util
import json
import os
from pathlib import Path

import numpy as np
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


def test_item_semantics(tmp_path):
    """Two groups of attributes make two groups of directions, in the order of ids as numbers."""
    module = loaded("item_semantics")
    items = {str(n): [100 + n % 2, 200 + n % 2, 300 + n] for n in range(20, 0, -1)} | {"21": []}
    path = tmp_path / "items.json.gz"
    path.write_bytes(gzip.compress(json.dumps(items).encode()))
    found = module.semantics(module.attributes(path), 2)
    assert found.shape == (21, 2)
    assert found.dtype == np.float32
    assert not found[20].any()
    unit = found[:20] / np.linalg.norm(found[:20], axis=1, keepdims=True)
    parity = np.arange(1, 21) % 2
    alike = unit @ unit.T
    assert alike[parity[:, None] == parity].min() > 0.99
    assert np.abs(alike[parity[:, None] != parity]).max() < 0.01


def test_item_semantics_is_the_svd_of_tf_idf():
    """Products of rows against those of a dense SVD."""
    module = loaded("item_semantics")
    items = {"1": ["a", "b"], "2": ["b", "c", "c"], "10": ["a"], "9": ["c", "d"]}
    hot = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 0]], dtype=float)  # 1, 2, 9, 10; a repeat counts once
    weighted = hot * (np.log(5 / (1 + hot.sum(0))) + 1)
    weighted /= np.linalg.norm(weighted, axis=1, keepdims=True)
    u, s, _ = np.linalg.svd(weighted)
    found = module.semantics(items, 2).astype(float)
    np.testing.assert_allclose(found @ found.T, (u[:, :2] * s[:2] ** 2) @ u[:, :2].T, atol=1e-5)


def test_item_semantics_in_the_order_of_a_logs_ids():
    """Numbers ascend as numbers, but an id that begins with a zero makes all of them texts, as reading a log does."""
    module = loaded("item_semantics")
    kinds = {"9": [1, 2], "12": [1, 3], "100": [2, 3, 4]}
    assert np.allclose(
        module.semantics(kinds, 2), module.semantics(dict(sorted(kinds.items(), key=lambda item: int(item[0]))), 2)
    )
    texts = {"9": [1, 2], "12": [1, 3], "0100": [2, 3, 4]}
    ascending = {f"{letter}{item}": texts[item] for letter, item in zip("abc", sorted(texts), strict=True)}
    assert np.allclose(module.semantics(texts, 2), module.semantics(ascending, 2))


def test_item_semantics_of_bad_files(tmp_path):
    module = loaded("item_semantics")
    (tmp_path / "list.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match="must map item ids to lists"):
        module.attributes(tmp_path / "list.json")
    with pytest.raises(ValueError, match="width must lie between 1 and 1, got 64"):
        module.semantics({"1": [1], "2": [2]})


def test_item_semantics_of_real_attributes():
    folder = Path(os.environ.get("GRAPHCL_DATA", "")) / "sequential" / "s3rec_item_attributes"
    if not (folder / "Beauty_item2attributes.json.gz").is_file():
        pytest.skip("needs $GRAPHCL_DATA/sequential/s3rec_item_attributes")
    module = loaded("item_semantics")
    items = module.attributes(folder / "Beauty_item2attributes.json.gz")
    found = module.semantics(items)
    assert found.shape == (12101, 64)
    assert np.isfinite(found).all()
    assert (np.linalg.norm(found, axis=1) > 0).all()
