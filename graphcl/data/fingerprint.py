"""By which a run tells that data are those it was trained on."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from graphcl.data.attributed import AttributedData, Features
from graphcl.data.nodes import NodeData
from graphcl.data.sequences import SequenceSplit
from graphcl.data.split import Split


def of_split(made: Split) -> str:
    """Of every part's pairs and of all ids, in order."""
    digest = hashlib.sha256()
    for name, part in made.parts.items():
        digest.update(name.encode())
        for rows in (part.users, part.items):
            for start in range(0, len(rows), 1 << 17):
                digest.update(rows[start : start + (1 << 17)].astype(np.int64).tobytes())
    for vocabulary in (made.train.user_ids, made.train.item_ids):
        digest.update(pd.util.hash_array(vocabulary.ids).tobytes())
    return digest.hexdigest()


def of_histories(split: SequenceSplit) -> str:
    """Of every history, what is trained on and held out of it, and of all ids, in order."""
    digest = hashlib.sha256()
    parts = [split.log.items, split.log.pointers, split.train.lengths]
    for held_out in (split.valid, split.test):
        parts += [torch.tensor([-1])] if held_out is None else [torch.tensor([len(held_out.places)]), held_out.places]
    for tensor in parts:
        digest.update(tensor.numpy().tobytes())
    for vocabulary in (split.log.user_ids, split.log.item_ids):
        digest.update(pd.util.hash_array(vocabulary.ids).tobytes())
    return digest.hexdigest()


def of_graph(data: AttributedData | NodeData) -> str:
    """Of every relation or edge, feature, label and split, in order, of meta-paths, given positives, and of a number of clusters that is
    not that of the classes."""
    digest = hashlib.sha256()

    def add(x: Features) -> None:
        for part in (x.numpy(),) if isinstance(x, Tensor) else (x.indptr.astype(np.int64), x.indices.astype(np.int64), x.data):
            digest.update(part.tobytes())

    if isinstance(data, AttributedData):
        for part in (data.graph.adj.rowptr, data.graph.adj.col):
            digest.update(part.numpy().tobytes())
        add(data.x)
        if data.num_clusters != data.num_classes:
            digest.update(f"{data.num_clusters} clusters".encode())
    else:
        for (a, b), matrix in sorted(data.graph.relations.items()):
            digest.update(f"{a}-{b}".encode())
            digest.update(matrix.indptr.astype(np.int64).tobytes())
            digest.update(matrix.indices.astype(np.int64).tobytes())
        for name, table in sorted(data.graph.x.items()):
            digest.update(name.encode())
            add(table)
        digest.update(" ".join(data.metapaths).encode())
        if data.positives is not None:
            add(data.positives)
    digest.update(data.labels.numpy().tobytes())
    for rate, split in data.splits.items():
        digest.update(f"{rate} {[len(rows) for rows in split]}".encode())
        for rows in split:
            digest.update(rows.numpy().tobytes())
    return digest.hexdigest()
