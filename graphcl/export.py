"""Embeddings as files that other programs read, keyed by the caller's ids."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from graphcl import rundir

if TYPE_CHECKING:
    from graphcl.run import Embeddings

FORMATS = (".npz", ".parquet", ".safetensors")


def check(path: Path) -> None:
    """Raises ValueError for a file name that says no known format."""
    if path.suffix not in FORMATS:
        raise ValueError(f"embeddings are written as {', '.join(FORMATS)}, not as {path.name!r}")


def write(embeddings: Embeddings, path: Path) -> None:
    """Raises ValueError for an unknown format.

    .npz: arrays user_ids, users, item_ids, items (text ids as fixed-width text, so no pickle). .parquet: columns kind, id (text),
    embedding. .safetensors: tensors users and items; the ids as JSON, under "about" in the metadata.
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

        tensors = {"users": torch.from_numpy(embeddings.users), "items": torch.from_numpy(embeddings.items)}
        ids = {"user_ids": embeddings.user_ids.tolist(), "item_ids": embeddings.item_ids.tolist()}
        rundir.write_tensors(path, tensors, ids)


def _plain(values: np.ndarray) -> np.ndarray:
    return values.astype(str) if values.dtype == object else values


def _frame(embeddings: Embeddings):
    import pandas as pd

    parts = [
        pd.DataFrame({"kind": kind, "id": pd.Series(ids).astype(str), "embedding": list(table)})
        for kind, ids, table in (
            ("user", embeddings.user_ids, embeddings.users),
            ("item", embeddings.item_ids, embeddings.items),
        )
    ]
    return pd.concat(parts, ignore_index=True)
