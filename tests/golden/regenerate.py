"""The first five steps of every trained recipe on a toy log: ``python tests/golden/regenerate.py`` writes them anew.

A refactor leaves the file as it is. Whatever changes it belongs under "Numbers moved" in the changelog, with the reason.
"""

import dataclasses
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2]))  # run as a script, this file's own folder is what Python finds first

from graphcl import phase as phases
from graphcl import pretrain
from graphcl.interactions import Interactions, Vocabulary
from graphcl.planted import planted, planted_attributed
from graphcl.recipes import RECIPES, configure
from graphcl.recipes.parts import batches_of, inputs_of, step_of
from graphcl.streams import Streams
from graphcl.train import fit
from tests.histories import histories, prefix_batch, user_batch

FILE = Path(__file__).with_name("losses.json")
STEPS = 5
# Recipes have their own settings but for these; a batch holds the whole log, so that a step is an epoch with all its hooks.
SMALL = {"dim": 4, "rank": 2, "batch_size": 1000, "learning_rate": 0.01, "num_clusters": 3, "warm_up": 2}
VARIANTS = {
    "sgl nodes": ("sgl", {"drop": "nd", "fraction": 0.3}),
    "sgl walk": ("sgl", {"drop": "rw", "fraction": 0.3}),
    "sasrec sampled": ("sasrec", {"loss": "sampled", "num_negatives": 3}),
    "sasrec gbce": ("sasrec", {"loss": "gbce", "num_negatives": 3}),
    "sasrec bce": ("sasrec", {"loss": "bce"}),
    "mclrec paper": ("mclrec", {"updates": "AB", "regulariser": "batch"}),
    "lightgcn users": ("lightgcn", {"balance": "users"}),
}

Losses = dict[str, list[float]]  # term -> its value at each step


def log() -> Interactions:
    """20 users, 15 items, some 90 rows; the last user and the last item have none, and three rows come twice."""
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, 19, 90), rng.integers(0, 14, 90) * rng.integers(0, 2, 90)
    users, items = (np.append(x, x[:3]).astype(np.int32) for x in (users, items))
    return Interactions(users, items, Vocabulary(np.arange(20)), Vocabulary(np.arange(15)))


def settings_of(recipe: str) -> set[str]:
    return {field.name for field in dataclasses.fields(configure.find(recipe).Config)}


def trained() -> dict[str, tuple[str, dict]]:
    """Name of a run -> recipe and settings, for every registered recipe that has parameters, and the variants."""
    found: dict[str, tuple[str, dict]] = {}
    for name in RECIPES:
        if name == "pathgcl":  # XSimGCL's steps, and those of a view that needs a file
            continue
        if "dim" in settings_of(name) and "embed" not in vars(configure.find(name)):
            found[name] = (name, {})
    return found | VARIANTS


def steps(recipe: str, settings: dict) -> Losses:
    module = configure.find(recipe)
    if module.KIND == "sequential":
        return sequence_steps(module, settings)
    if module.KIND != "general":
        return node_steps(module, settings)
    config = module.Config(**{k: v for k, v in SMALL.items() if k in settings_of(recipe)} | settings)
    data, streams = log(), Streams(0)
    model: nn.Module = module.build(config, data, rng=streams["init"])
    inputs, step, batches = inputs_of(module, config, data), step_of(module, config, model), batches_of(module, config, data)
    losses: Losses = {}
    for epoch in fit(model, inputs, step=step, batches=batches, streams=streams, epochs=STEPS):
        assert epoch.steps == 1
        for term, value in epoch.terms.items():
            losses.setdefault(term, []).append(float(f"{value:.6g}"))
    return losses


def node_steps(module: ModuleType, settings: dict) -> Losses:
    """On the planted graph, masks and dropout included."""
    small = {"dim": 4, "projected": 4, "learning_rate": 0.01, "clusters": (2, 3), "samples": None, "num_positives": 2,
        "layers": (6,), "pretrain_epochs": 2,
    }  # fmt: skip
    names = {field.name for field in dataclasses.fields(module.Config)}
    config = module.Config(**{k: v for k, v in small.items() if k in names} | settings)
    data = planted_attributed() if module.KIND == "attributed" else planted()
    phase = pretrain.start(module, config, data, 0, "cpu")
    phases.begin(phase)
    losses: Losses = {}
    for epoch in fit(phase.model, phase.inputs, step=phase.step, batches=phase.batches, streams=phase.streams, epochs=STEPS):
        for term, value in epoch.terms.items():
            losses.setdefault(term, []).append(float(f"{value:.6g}"))
    return losses


def sequence_steps(module: ModuleType, settings: dict) -> Losses:
    """On four histories, dropout included; one batch, by users or by prefixes as the recipe has it."""
    names = {field.name for field in dataclasses.fields(module.Config)}
    small = {"dim": 4, "inner": 6, "max_length": 6, "learning_rate": 0.01, "semantics": "random", "num_neighbours": 2}
    config = module.Config(**{k: v for k, v in small.items() if k in names} | settings)
    data, streams = histories(), Streams(0)
    batch = user_batch() if config.rows == "user" else prefix_batch()
    model = module.build(config, data, rng=streams["init"])
    step = step_of(module, config, model)
    losses: Losses = {}
    for epoch in fit(model, data, step=step, batches=lambda rng: iter([batch]), streams=streams, epochs=STEPS):
        for term, value in epoch.terms.items():
            losses.setdefault(term, []).append(float(f"{value:.6g}"))
    return losses


if __name__ == "__main__":
    found = {name: steps(*run) for name, run in trained().items()}
    FILE.write_text(json.dumps(found, indent=1) + "\n")
