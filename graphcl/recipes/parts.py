"""What a recipe module may leave out, and what stands in for it."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from graphcl.contracts import Batches, Scorer, Step
from graphcl.data.sample import Triples
from graphcl.data.sequence_batches import user_rows
from graphcl.graph import bipartite
from graphcl.interactions import Interactions
from graphcl.recipes.model import Model
from graphcl.sequence import Sequences
from graphcl.train import PlainStep

SCHEDULE = ("rate_decay", "lowest_rate")  # of the learning rate; histories have none


def inputs_of(recipe: ModuleType, config: Any, data: Interactions | Sequences) -> Any:
    """The graph of the log, symmetrically normalised, or the histories, unless the recipe has ``inputs(config, data)``."""
    own = vars(recipe)
    if "inputs" in own:
        return own["inputs"](config, data)
    return data if isinstance(data, Sequences) else bipartite(data)


def step_of(recipe: ModuleType, config: Any, model: Model) -> Step:
    """Adam on the sum of the terms, unless the recipe has ``step(config, model)``."""
    own = vars(recipe)
    if "step" in own:
        return own["step"](config, model)
    return PlainStep(model, config.learning_rate, **{key: value for key, value in vars(config).items() if key in SCHEDULE})


def batches_of(recipe: ModuleType, config: Any, data: Interactions | Sequences) -> Batches:
    """BPR triples, or of histories a row a user, unless the recipe has ``batches(config, data)``."""
    own = vars(recipe)
    if "batches" in own:
        return own["batches"](config, data)
    if isinstance(data, Sequences):
        return user_rows(data, config.max_length, config.batch_size)
    return Triples(data, config.batch_size, balance=config.balance)


def scorer_of(recipe: ModuleType, config: Any, data: Interactions, learned: Scorer) -> Scorer:
    """What ranks when training is over: the learned embeddings, unless the recipe has ``scorer(config, data, learned)``."""
    own = vars(recipe)
    return own["scorer"](config, data, learned) if "scorer" in own else learned
