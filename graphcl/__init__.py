"""Contrastive learning on graphs and in recommendation.

The public names load on first use, so that importing the package does nothing but define it.
"""

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphcl.data.attributed import AttributedData as AttributedData
    from graphcl.data.attributed import load_attributed as load_attributed
    from graphcl.data.nodes import NodeData as NodeData
    from graphcl.data.nodes import load_nodes as load_nodes
    from graphcl.data.read import read_interactions as read_interactions
    from graphcl.data.sequences import load_sequences as load_sequences
    from graphcl.data.split import Split as Split
    from graphcl.data.split import split as split
    from graphcl.graph import Graph as Graph
    from graphcl.graph import bipartite as bipartite
    from graphcl.hetero import HeteroGraph as HeteroGraph
    from graphcl.interactions import Interactions as Interactions
    from graphcl.pretrain import NodeRun as NodeRun
    from graphcl.run import Run as Run
    from graphcl.runs import load as load
    from graphcl.runs import train as train
    from graphcl.sequence import Sequences as Sequences
    from graphcl.sequence_run import SequenceRun as SequenceRun

__version__ = "0.1.0"

_HOMES = {
    "AttributedData": "graphcl.data.attributed",
    "Graph": "graphcl.graph",
    "HeteroGraph": "graphcl.hetero",
    "Interactions": "graphcl.interactions",
    "NodeData": "graphcl.data.nodes",
    "NodeRun": "graphcl.pretrain",
    "Run": "graphcl.run",
    "SequenceRun": "graphcl.sequence_run",
    "Sequences": "graphcl.sequence",
    "Split": "graphcl.data.split",
    "bipartite": "graphcl.graph",
    "load": "graphcl.runs",
    "load_attributed": "graphcl.data.attributed",
    "load_nodes": "graphcl.data.nodes",
    "load_sequences": "graphcl.data.sequences",
    "read_interactions": "graphcl.data.read",
    "split": "graphcl.data.split",
    "train": "graphcl.runs",
}
__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'graphcl' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)


class _Package(ModuleType):
    """`graphcl.train` is the function; `from graphcl.train import fit` reaches into the file of that name."""

    def __setattr__(self, name: str, value: Any) -> None:
        # Importing a file makes it an attribute of its package, where it would hide the function.
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
