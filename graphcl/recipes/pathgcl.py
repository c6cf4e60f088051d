"""XSimGCL beside a knowledge graph: each user and item against those that meta-paths call similar. Our own, no paper.

A second contrast joins XSimGCL's: main layers, one hop further through the graph of meta-path neighbours (the ``neighbours`` best by
PathSim of each node, mean over meta-paths), against the main layers themselves. Without ``path_weight`` it is XSimGCL.

The knowledge is read when training begins; a finished run needs it no more.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse

from graphcl.contracts import Forward, Pair, Part
from graphcl.data.knowledge import knowledge_graph
from graphcl.encoders.readout import mean
from graphcl.graph import Graph, normalised_adjacency
from graphcl.interactions import Interactions
from graphcl.objectives import InfoNCE
from graphcl.ops import Sparse
from graphcl.recipes import xsimgcl
from graphcl.recipes.model import Contrast, Model
from graphcl.views import Relayed

KIND = "general"


@dataclass(frozen=True)
class Config(xsimgcl.Config):
    items: str = ""  # a RecBole .item file; $NAME in a path is an environment variable
    users: str = ""  # a .user file
    kg: str = ""  # a .kg file, with its .link file
    link: str = ""
    columns: tuple = ()  # of the .item and .user files; none: all that hold tokens
    item_paths: tuple = ("item-class-item",)
    user_paths: tuple = ("user-item-class-item-user",)
    neighbours: int = 20  # of each node, by PathSim
    path_weight: float = 0.1
    path_temperature: float = 0.2


PRESETS: dict[str, dict] = {
    "general/ml-100k": {
        **xsimgcl.PRESETS["general/ml-100k"],
        "items": "$GRAPHCL_DATA/general/ml-100k/ml-100k.item",
        "columns": ("class",),
    },
}
SPACE: dict[str, tuple | list] = {**xsimgcl.SPACE, "path_weight": (0.0, 1.0), "path_temperature": (0.05, 0.5, "log")}


def build(config: Config, data: Interactions, *, rng: torch.Generator) -> Model:
    base = xsimgcl.build(config, data, rng=rng)
    contrasts = [contrast for contrast in base.contrasts if isinstance(contrast, Contrast)]
    if config.path_weight:
        contrasts.append(
            Contrast(PathNeighbours(config, data), InfoNCE(config.path_temperature), config.path_weight, name="paths")
        )
    return Model(base.encoder, base.readout, base.task, contrasts, perturb=base.perturb)


def files(config: Config) -> dict[str, str]:
    return {key: os.path.expandvars(getattr(config, key)) for key in ("items", "users", "kg", "link")}


class PathNeighbours(Part):
    """Main layers against themselves, one hop through the graph of meta-path neighbours."""

    passes = 0

    def __init__(self, config: Config, data: Interactions):
        super().__init__()
        self._config, self._data = config, data
        self._view: Relayed | None = None

    def start_epoch(self, inputs: Graph, epoch: int, rng: torch.Generator) -> None:
        if self._view is None:  # drawn from a seed of its own, so that a resumed run has the same
            self._view = Relayed(neighbours(self._config, self._data, torch.Generator().manual_seed(0)), mean(first=0))

    def __call__(self, forward: Forward) -> tuple[Pair, ...]:
        if self._view is None:
            raise RuntimeError("PathNeighbours needs start_epoch before the first step")
        return self._view(forward)


def neighbours(config: Config, data: Interactions, rng: torch.Generator) -> Sparse:  # [U + I, U + I]
    """Users beside users and items beside items, each normalised, on one diagonal.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no file of knowledge, no meta-path, or one that does not compose or leads elsewhere.
    """
    if not (config.items or config.users or config.kg):
        raise ValueError("pathgcl needs a file of knowledge: set items, users, or kg with link")
    named = {key: path or None for key, path in files(config).items()}
    graph = knowledge_graph(data, **named, columns=config.columns or None)  # type: ignore[arg-type]
    blocks = []
    for end, paths in (("user", config.user_paths), ("item", config.item_paths)):
        if not paths:
            raise ValueError(f"setting '{end}_paths' needs a meta-path or more from {end} to {end}")
        total = sparse.csr_matrix((graph.counts[end], graph.counts[end]), dtype=np.float32)
        for path in paths:
            if (types := graph.types(path))[0] != end:
                raise ValueError(f"setting '{end}_paths': {path} starts at {types[0]}, not at {end}")
            total = total + normalised_adjacency(graph.pathsim(path, config.neighbours, rng=rng)).to_scipy() / len(paths)
        blocks.append(total)
    return Sparse.from_scipy(sparse.block_diag(blocks, format="csr"))
