"""A small graph with planted classes, heterogeneous or attributed, and the check of recipes on it."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from graphcl import pretrain
from graphcl.data.attributed import AttributedData
from graphcl.data.nodes import LabelSplit, NodeData
from graphcl.graph import Graph
from graphcl.hetero import HeteroGraph
from graphcl.probe import label_probe
from graphcl.streams import Streams


def planted(seed: int = 0) -> NodeData:
    """48 papers of three fields, 24 authors, 6 subjects: papers mostly share authors and subjects with their own field. The last
    paper has no relation at all, one author has no paper, half of a paper's words are its field's."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(3), 16))
    authors = [
        (p, 8 * label + a) for p, label in enumerate(labels[:-1]) for a in rng.choice(8, 2, replace=False) if 8 * label + a != 23
    ]
    authors += [(p, int(rng.integers(23))) for p in range(0, 47, 4)]
    subjects = [(p, 2 * label + rng.integers(2)) for p, label in enumerate(labels[:-1])]
    words = np.zeros((48, 30), dtype=np.float32)
    for p, label in enumerate(labels):
        words[p, 10 * label + rng.choice(10, 4, replace=False)] = 1
        words[p, rng.choice(30, 4, replace=False)] = 1
    edges = {("P", "A"): np.array(authors, dtype=np.int64).T, ("P", "S"): np.array(subjects, dtype=np.int64).T}
    graph = HeteroGraph.from_edges({"P": 48, "A": 24, "S": 6}, edges, "P", {"P": sparse.csr_matrix(words)})
    order = torch.from_numpy(rng.permutation(48))
    parts = [torch.cat([order[labels[order] == c][cut] for c in range(3)]) for cut in (slice(0, 5), slice(5, 10), slice(10, 16))]
    return NodeData("planted", graph, ("PAP", "PSP"), torch.from_numpy(labels), {5: LabelSplit(*parts)})


def planted_attributed(seed: int = 0) -> AttributedData:
    """The papers of :func:`planted` and their words, joined by shared authors; the last has no edge."""
    data = planted(seed)
    first, second = data.graph.pathsim("PAP", None).nonzero()
    x = data.graph.x["P"]
    assert isinstance(x, sparse.csr_matrix)
    return AttributedData("planted", Graph.from_pairs(first, second, data.graph.num_targets), x, data.labels, data.splits)


def check_pretraining(
    module: ModuleType,
    undisturbed: Callable[[], AbstractContextManager[None]],
    epochs: int,
    least: float,
    settings: Mapping[str, Any],
) -> float:
    """Macro-F1 of a probe on what a recipe learns of :func:`planted` (or :func:`planted_attributed`) in ``epochs``; has to be ``least``.
    Clusters of a model have to be one int64 a node."""
    fields = {f.name for f in dataclasses.fields(module.Config)}
    fast = {
        "dim": 8, "projected": 8, "learning_rate": 0.01, "epochs": epochs, "select": "last", "patience": 0, "neighbours": (8,), "clusters": (4, 6),
        "num_positives": 3, "num_samples": 2, "samples": None, "edge_mask": (0.2,), "temperature": 0.5, "layers": (32,), "self_weight": 0.1,
    }  # fmt: skip
    config = module.Config(**{**{k: v for k, v in fast.items() if k in fields}, **settings})
    data, streams = planted_attributed() if module.KIND == "attributed" else planted(), Streams(0)
    importlib.import_module("sklearn.cluster")  # which draws when it is first imported
    with undisturbed():
        if "embed" in vars(module):
            embedding = module.embed(config, data, rng=streams["init"])
        else:
            embedding = _pretrained(module, config, data)
    assert len(embedding) == len(data.labels), f"{len(embedding)} rows for {len(data.labels)} nodes"
    assert bool(embedding.isfinite().all()), "embeddings are not finite"
    share = label_probe(
        embedding, data.labels, data.splits, repeats=5, learning_rate=0.05, rng=torch.Generator().manual_seed(0)
    ).means["ma_f1@5"]
    assert share >= least, f"macro-F1 of a probe is {share:.2f}, not {least:.2f}"
    return share


def _pretrained(module: ModuleType, config: Any, data: NodeData | AttributedData) -> Tensor:
    phase = pretrain.run(pretrain.start(module, config, data, 0, "cpu"), config, data, None)
    clusters = pretrain.own_clusters(phase) if module.KIND == "attributed" else None
    if clusters is not None:
        told = f"{clusters.dtype} of shape {tuple(clusters.shape)}"
        assert (clusters.dtype, clusters.shape) == (torch.int64, data.labels.shape), f"clusters are {told}, not one int64 a node"
    return phase.model.embed(phase.inputs)
