"""Embeddings as files that other programs read, keyed by the caller's ids."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphcl import rundir

if TYPE_CHECKING:
    from graphcl.pretrain import NodeEmbeddings
    from graphcl.run import Embeddings
    from graphcl.sequence_run import ItemEmbeddings

FORMATS = (".npz", ".parquet", ".safetensors")


def check(path: Path) -> None:
    """Raises ValueError for a file name that says no known format."""
    if path.suffix not in FORMATS:
        raise ValueError(f"embeddings are written as {', '.join(FORMATS)}, not as {path.name!r}")


def write(embeddings: Embeddings | NodeEmbeddings | ItemEmbeddings, path: Path) -> None:
    """Raises ValueError for an unknown format.

    .npz: arrays user_ids, users, item_ids, items (text ids as fixed-width text, so no pickle). .parquet: columns kind, id (text),
    embedding. .safetensors: tensors users and items; the ids as JSON, under "about" in the metadata. Nodes of a graph: ids and nodes
    in the place of these; of sequences there are items alone.
    """
    check(path)
    if path.suffix == ".npz":
        plain: dict[str, Any] = {key: _plain(value) for key, value in embeddings._asdict().items()}

        def save(part: Path) -> None:
            with open(part, "wb") as file:
                np.savez(file, **plain)

        rundir.atomically(path, save)
    elif path.suffix == ".parquet":
        rundir.atomically(path, lambda part: _frame(embeddings).to_parquet(part, index=False))
    else:
        import torch

        fields = embeddings._asdict()
        tensors = {key: torch.from_numpy(table) for key, table in fields.items() if table.ndim == 2}
        rundir.write_tensors(path, tensors, {key: ids.tolist() for key, ids in fields.items() if ids.ndim == 1})


def _plain(values: np.ndarray) -> np.ndarray:
    return values.astype(str) if values.dtype == object else values


def _frame(embeddings: Embeddings | NodeEmbeddings | ItemEmbeddings):
    import pandas as pd

    parts = [
        pd.DataFrame({"kind": kind, "id": pd.Series(ids).astype(str), "embedding": list(table)})
        for kind, ids, table in _kinds(embeddings)
    ]
    return pd.concat(parts, ignore_index=True)


def _kinds(embeddings: Embeddings | NodeEmbeddings | ItemEmbeddings) -> list[tuple[str, np.ndarray, np.ndarray]]:
    found = embeddings._asdict()
    if "nodes" in found:
        return [("node", found["ids"], found["nodes"])]
    users = [("user", found["user_ids"], found["users"])] if "users" in found else []
    return [*users, ("item", found["item_ids"], found["items"])]
