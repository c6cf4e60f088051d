"""Embeddings as files."""

import json

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open

from graphcl import export
from graphcl.run import Embeddings

TEXT = np.array(["007", "ü", "a b"], dtype=object)
WHOLE = np.array([2**60 + 1, -4], dtype=np.int64)


@pytest.fixture
def embeddings():
    rng = np.random.default_rng(0)
    return Embeddings(TEXT, rng.normal(size=(3, 4)).astype(np.float32), WHOLE, rng.normal(size=(2, 4)).astype(np.float32))


def test_npz_holds_no_pickle(tmp_path, embeddings):
    export.write(embeddings, tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz", allow_pickle=False) as found:
        assert sorted(found.files) == ["item_ids", "items", "user_ids", "users"]
        assert found["user_ids"].tolist() == TEXT.tolist()
        assert found["item_ids"].dtype == np.int64
        assert found["item_ids"].tolist() == WHOLE.tolist()
        np.testing.assert_array_equal(found["users"], embeddings.users)
        np.testing.assert_array_equal(found["items"], embeddings.items)
        assert found["users"].dtype == np.float32


def test_parquet_has_a_row_for_each_user_and_item(tmp_path, embeddings):
    export.write(embeddings, tmp_path / "e.parquet")
    found = pd.read_parquet(tmp_path / "e.parquet")
    assert found.columns.tolist() == ["kind", "id", "embedding"]
    assert found["kind"].tolist() == ["user"] * 3 + ["item"] * 2
    assert found["id"].tolist() == [*TEXT, "1152921504606846977", "-4"]
    np.testing.assert_array_equal(np.stack(found["embedding"]), np.concatenate([embeddings.users, embeddings.items]))


def test_safetensors_hold_the_ids_as_json(tmp_path, embeddings):
    export.write(embeddings, tmp_path / "e.safetensors")
    with safe_open(tmp_path / "e.safetensors", framework="np") as found:
        assert sorted(found.keys()) == ["items", "users"]
        np.testing.assert_array_equal(found.get_tensor("users"), embeddings.users)
        np.testing.assert_array_equal(found.get_tensor("items"), embeddings.items)
        about = json.loads(found.metadata()["about"])
    assert about == {"user_ids": TEXT.tolist(), "item_ids": WHOLE.tolist()}


def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path, embeddings):
    with pytest.raises(ValueError, match=r"written as \.npz, \.parquet, \.safetensors, not as 'e\.pkl'"):
        export.write(embeddings, tmp_path / "e.pkl")
    assert not list(tmp_path.iterdir())
