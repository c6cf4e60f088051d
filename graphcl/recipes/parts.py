"""What a recipe module may leave out, and what stands in for it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from graphcl.contracts import Batches, Scorer, Step
from graphcl.data.sample import Triples
from graphcl.data.sequence_batches import user_rows
from graphcl.graph import Graph, bipartite
from graphcl.interactions import Interactions
from graphcl.recipes.model import Model
from graphcl.sequence import Sequences
from graphcl.train import PlainStep

SCHEDULE = ("rate_decay", "lowest_rate")  # of the learning rate; histories have none


def inputs_of(recipe: ModuleType, config: Any, data: Interactions) -> Graph:
    """The graph of the training part, symmetrically normalised, unless the recipe has ``inputs(config, data)``."""
    own = vars(recipe)
    return own["inputs"](config, data) if "inputs" in own else bipartite(data)


def step_of(recipe: ModuleType, config: Any, model: Model) -> Step:
    """Adam on the sum of the terms, unless the recipe has ``step(config, model)``."""
    own = vars(recipe)
    if "step" in own:
        return own["step"](config, model)
    return PlainStep(model, config.learning_rate, **{key: value for key, value in vars(config).items() if key in SCHEDULE})


def batches_of(recipe: ModuleType, config: Any, data: Interactions) -> Batches:
    """BPR triples, unless the recipe has ``batches(config, data)``."""
    own = vars(recipe)
    return own["batches"](config, data) if "batches" in own else Triples(data, config.batch_size, balance=config.balance)


def rows_of(recipe: ModuleType, config: Any, data: Sequences) -> Batches:
    """Of a recipe on sequences: a row a user, unless the recipe has ``batches(config, data)``."""
    own = vars(recipe)
    return own["batches"](config, data) if "batches" in own else user_rows(data, config.max_length, config.batch_size)


def scorer_of(recipe: ModuleType, config: Any, data: Interactions, learned: Scorer) -> Scorer:
    """What ranks when training is over: the learned embeddings, unless the recipe has ``scorer(config, data, learned)``."""
    own = vars(recipe)
    return own["scorer"](config, data, learned) if "scorer" in own else learned
