"""SGL: two graphs with edges, nodes or walks dropped, once an epoch, against all nodes.

Paper: Wu et al., "Self-supervised Graph Learning for Recommendation", SIGIR 2021.
Checked against: wujcan/SGL-Torch@c563288; ``readout`` and ``contrasted`` are those of HKUDS/SSLRec@7597c31.
Departs: losses are averaged over the batch instead of summed; as BPR, contrast and decay share the reduction, only Adam's epsilon
sees a difference. A batch's repeated rows are told by counts, which is the same sum over fewer rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from graphcl.contracts import Readout
from graphcl.encoders import LightGCN
from graphcl.encoders.readout import mean, total
from graphcl.graph import bipartite
from graphcl.interactions import Interactions
from graphcl.objectives import InfoNCE
from graphcl.perturb.edges import check_fraction, drop_edges, random_walk
from graphcl.perturb.nodes import drop_nodes
from graphcl.recipes.denominator import Denominator, strategy
from graphcl.recipes.model import Contrast, Model, Rows
from graphcl.recipes.ranking import Ranking
from graphcl.recipes.settings import Training, check_known, sizes
from graphcl.views import TwoInputs

KIND = "general"


@dataclass(frozen=True)
class Config(Training, Denominator):
    num_layers: int = 3
    drop: Literal["ed", "nd", "rw"] = "ed"  # edges, nodes, or another edge drop in every layer
    fraction: float = 0.1  # rho
    weight: float = 0.1  # lambda
    temperature: float = 0.2  # tau
    decay: float = 1e-4
    readout: Literal["mean", "sum"] = "mean"  # of the layers; SSLRec sums them
    contrasted: Literal["positives", "all"] = "positives"  # which items of a batch; SSLRec: those drawn as negatives too


PRESETS: dict[str, dict] = {"general/amazon-book": {"weight": 0.5}}
SPACE: dict[str, tuple | list] = {
    "learning_rate": (5e-4, 1e-2, "log"),
    "num_layers": (1, 4),
    "fraction": (0.05, 0.5),
    "weight": (5e-3, 1.0, "log"),
    "temperature": (0.1, 1.0, "log"),
    "decay": (1e-6, 1e-2, "log"),
}


def build(config: Config, data: Interactions, *, rng: torch.Generator) -> Model:
    check_fraction(config.fraction, "fraction")
    encoder = LightGCN(sizes(data), config.dim, config.num_layers, rng=rng)
    changes = {
        "ed": lambda graph, rng: drop_edges(graph, config.fraction, rng),
        "nd": lambda graph, rng: drop_nodes(graph, config.fraction, rng),
        "rw": lambda graph, rng: random_walk(graph, config.fraction, config.num_layers, rng),
    }
    readouts: dict[str, Readout] = {"mean": mean(first=0), "sum": total(first=0)}
    items: dict[str, Rows] = {"positives": "positives-repeated", "all": "all-repeated"}
    check_known(config, drop=changes, readout=readouts, contrasted=items)
    final = readouts[config.readout]
    contrast = Contrast(
        TwoInputs(changes[config.drop], final, every="epoch"),
        InfoNCE(config.temperature, negatives=strategy(config, bipartite(data), config.dim, rng)),
        config.weight,
        rows=items[config.contrasted],
    )
    return Model(encoder, final, Ranking(config.decay, "input"), [contrast])
