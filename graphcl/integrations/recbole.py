"""graphcl's recipes as RecBole models: RecBole's trainer trains them, its evaluator ranks them.

    from graphcl.integrations.recbole import recbole_model, run

    outcome = run("xsimgcl", "ml-100k", {"epochs": 20, "learning_rate": 5e-3, "graphcl_settings": {"num_layers": 2, "weight": 0.02}})
    print(outcome.test["ndcg@20"])  # RecBole's evaluator, graphcl's key
    outcome.model.embeddings().items  # [I, d], rows in the order of .item_ids: the tokens of the atomic files

    with compatible():  # or RecBole's own flow, step by step
        config = Config(model=recbole_model("xsimgcl"), dataset="ml-100k", config_dict={"graphcl_settings": {"eps": 0.1}})
        train, valid, test = data_preparation(config, create_dataset(config))
        trainer = Trainer(config, config.model_class(config, train.dataset))
        trainer.fit(train, valid)
        trainer.evaluate(test)

Settings of a recipe stand in ``graphcl_settings``, where an unknown one is refused, or beside RecBole's own keys, where RecBole lets
any pass. What RecBole's trainer decides (learning rate, batch size, epochs, patience, selection) is set by its keys; ``settings_for``
translates what ``graphcl train`` takes.

RecBole 1.2.1 needs older packages than graphcl: install both with ``constraints-recbole.txt``.

Departs: RecBole's loader draws batches and negatives and its optimiser moves, so the recipe's own step and sampler are not used; a
recipe that brings either (``lightgcl_paper``) is refused. A recipe with a scorer of its own (``xsimgcf``) ranks by it in every
evaluation, so it chooses the epoch too, which in graphcl the embeddings do. Presets are not applied. RecBole's checkpoints hold no state of
graphcl's generators, so training resumed from one draws other noise. RecBole keeps the last of equally good epochs, graphcl the first, and
does not evaluate a last epoch that is no multiple of ``eval_step``, so that it is never chosen.
"""

from __future__ import annotations

import copyreg
import functools
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from graphcl import phase as phases
from graphcl.contracts import Batch, Part, Scorer
from graphcl.data.split import Split, order_by_degree
from graphcl.integrations.recbole_names import EVALUATION, TRAINER_KEYS, check_evaluated, check_trainer, metrics_of, settings_for
from graphcl.interactions import Interactions, Vocabulary
from graphcl.rank import DotScorer
from graphcl.recipes.configure import configure, find
from graphcl.recipes.parts import inputs_of, scorer_of
from graphcl.run import Embeddings
from graphcl.streams import Streams

__all__ = ["EVALUATION", "Outcome", "compatible", "metrics_of", "recbole_model", "run", "settings_for", "split_of", "told"]
_NEEDED = (
    "RecBole 1.2.1 runs with NumPy 1 and pandas 2; make an environment with: "
    'pip install -c constraints.txt -c constraints-recbole.txt -e ".[recbole]"'
)
if int(np.__version__.split(".")[0]) > 1 or int(pd.__version__.split(".")[0]) > 2:
    raise ImportError(f"{_NEEDED} (here are NumPy {np.__version__} and pandas {pd.__version__})")
try:
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.model.abstract_recommender import GeneralRecommender
    from recbole.utils import InputType, ModelType, get_model, get_trainer, init_seed
except ImportError as error:
    raise ImportError(f"{_NEEDED} ({error})") from None


@contextmanager
def compatible() -> Iterator[None]:
    """What the pinned packages leave to do: RecBole reads its own checkpoints by a ``torch.load`` that refuses them since torch 2.6,
    and takes the program's command line for settings. Both are put back after."""
    key, arguments = "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", sys.argv
    before = os.environ.get(key)
    os.environ[key], sys.argv = "1", sys.argv[:1]
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", f"Environment variable {key} detected")
            yield
    finally:
        sys.argv = arguments
        if before is None:
            del os.environ[key]
        else:
            os.environ[key] = before


def split_of(train: Any, valid: Any = None, test: Any = None) -> Split:
    """RecBole's parts (``train_data.dataset``, ...) as ours. Ids are the tokens of the atomic files; [PAD] is no id."""
    users, items = (Vocabulary(train.field2id_token[f][1:].astype(object)) for f in (train.uid_field, train.iid_field))

    def part(dataset: Any) -> Interactions | None:
        if dataset is None:
            return None
        who, what = (np.asarray(dataset.inter_feat[f], dtype=np.int32) - 1 for f in (train.uid_field, train.iid_field))
        return Interactions(who, what, users, items, name=train.dataset_name)

    first = part(train)
    assert first is not None
    return order_by_degree(Split(train.dataset_name, first, part(valid), part(test), "recbole", 0))


def told(config: Any) -> dict[str, Any]:
    """What a RecBole ``Config`` came to: training, evaluation and the model's own settings, as plain values."""
    left_out = {*config.parameters["General"], *config.parameters["Dataset"], "dataset", "model", "worker", "wandb_project"}
    plain = (bool, int, float, str, list, dict, type(None))
    found = config.final_config_dict.items()
    return {
        key: value for key, value in found if key not in left_out and isinstance(value, plain) and not isinstance(value, Enum)
    }


class _Named(type):
    """Classes that are made for a recipe are pickled by its name: RecBole's checkpoints hold the class."""

    named: str  # as `find` takes it


def _by_name(model: _Named) -> tuple[Any, tuple[str]]:
    return recbole_model, (model.named,)


copyreg.pickle(_Named, _by_name)


class _Wrapped(GeneralRecommender, metaclass=_Named):
    """A recipe over RecBole's ids: 0 is [PAD], the others follow the atomic files."""

    named: str
    recipe: ModuleType

    def __init__(self, config: Any, dataset: Any):
        super().__init__(config, dataset)
        self.settings = self._settings(config)
        self.streams = Streams(config["seed"])
        self.data = split_of(dataset).train
        ids = (dataset.field2id_token[field] for field in (self.USER_ID, self.ITEM_ID))
        for name, known, tokens in zip(("users", "items"), (self.data.user_ids, self.data.item_ids), ids, strict=True):
            rows = torch.from_numpy(known.rows(tokens.astype(object)))  # [n_users] or [n_items], ours of RecBole's; -1 for [PAD]
            self.register_buffer(f"_{name}", rows.to(self.device), persistent=False)

    def _settings(self, config: Any) -> Any:
        names = set(self.recipe.Config.__dataclass_fields__)
        given = dict(config["graphcl_settings"] or {})
        for key in sorted(names & TRAINER_KEYS.keys()):
            theirs = TRAINER_KEYS[key]
            if key in given or (key in config and theirs != key):
                where = "graphcl_settings: " if key in given else ""
                how = f"set {theirs!r} beside graphcl_settings" if theirs else "it cannot be set"
                raise ValueError(f"{where}{key!r} is for RecBole's trainer to decide; {how}")
        beside = {key: config[key] for key in names - TRAINER_KEYS.keys() if key in config}
        trainer = {key: config[TRAINER_KEYS[key]] for key in ("learning_rate", "batch_size", "epochs") if key in names}
        found = configure(self.recipe, {"trainer": trainer, "beside": beside, "graphcl_settings": given})[0]
        check_trainer(found)
        return found

    def scores(self, users: Tensor) -> Tensor:  # RecBole's ids [b] -> [b, n_items], -inf for [PAD]
        ours = self.scorer.score(self._users[users].cpu()).to(self.device)
        scores = ours[:, self._items]
        scores[:, 0] = -torch.inf
        return scores

    def full_sort_predict(self, interaction: Any) -> Tensor:  # [b * n_items]
        return self.scores(interaction[self.USER_ID]).view(-1)

    def predict(self, interaction: Any) -> Tensor:  # [b]
        users, place = interaction[self.USER_ID].unique(return_inverse=True)
        return self.scores(users)[place, interaction[self.ITEM_ID]]

    @property
    def scorer(self) -> Any:
        raise NotImplementedError

    @property
    def learned(self) -> DotScorer | None:
        return None

    def embeddings(self) -> Embeddings:
        """What the model knows of each user and item, by the tokens of the atomic files.

        Raises:
            ValueError: a recipe without embeddings.
        """
        if self.learned is None:
            raise ValueError(f"{self.named} has no embeddings: it scores by counts or item weights")
        ids = self.data.user_ids.ids, self.data.item_ids.ids
        return Embeddings(ids[0], self.learned.users.cpu().numpy(), ids[1], self.learned.items.cpu().numpy())


class _ClosedForm(_Wrapped):
    """A recipe without epochs: fitted when it is made."""

    type = ModelType.TRADITIONAL
    input_type = InputType.POINTWISE

    def __init__(self, config: Any, dataset: Any):
        super().__init__(config, dataset)
        self._scorer = self.recipe.build(self.settings, self.data, rng=self.streams["init"])
        self.nothing = nn.Parameter(torch.zeros(()))  # RecBole's optimiser wants one

    def calculate_loss(self, interaction: Any) -> Tensor:
        return 0 * self.nothing

    @property
    def scorer(self) -> Any:
        return self._scorer


class _Trained(_Wrapped):
    """A recipe whose losses RecBole's trainer brings down. An epoch begins with the first loss after ``train()``, which RecBole calls
    once an epoch."""

    type = ModelType.GENERAL
    input_type = InputType.PAIRWISE

    def __init__(self, config: Any, dataset: Any):
        super().__init__(config, dataset)
        sampling = config["train_neg_sample_args"]
        if sampling["distribution"] == "none" or sampling["dynamic"]:
            raise ValueError(
                f"{self.named} needs negatives that are drawn before it is asked: train_neg_sample_args must have a distribution "
                f"and no 'dynamic', got {sampling}"
            )
        self.model = self.recipe.build(self.settings, self.data, rng=self.streams["init"]).to(self.device)
        self.inputs = inputs_of(self.recipe, self.settings, self.data).to(self.device)
        self._parts = [module for module in self.model.modules() if isinstance(module, Part)]
        self._epoch = self._steps = 0
        self._epoch_is_new, self._step_is_open = True, False
        self._learned: DotScorer | None = None
        self._scorer: Scorer | None = None
        self.register_load_state_dict_post_hook(lambda module, _: module._forget())

    def train(self, mode: bool = True) -> _Trained:
        self._close_step()
        self._forget()
        self._epoch_is_new = mode
        return super().train(mode)

    def calculate_loss(self, interaction: Any) -> tuple[Tensor, ...]:
        """The recipe's weighted terms, which RecBole adds up and logs one by one."""
        self._close_step()
        self._forget()
        if self._epoch_is_new:
            self._epoch, self._steps, self._epoch_is_new = self._epoch + 1, 0, False
            for part in self._parts:
                part.start_epoch(self.inputs, self._epoch, self.streams["views"])
        first = self.inputs.kinds["item"].start
        positives, negatives = (first + self._items[interaction[field]] for field in (self.ITEM_ID, self.NEG_ITEM_ID))
        batch = Batch(self._users[interaction[self.USER_ID]], positives, negatives)
        self._step_is_open = True
        return tuple(self.model.losses(self.inputs, batch, self.streams["views"]).values())

    @property
    def learned(self) -> DotScorer:
        if self._learned is None:
            self._learned = phases.scorer(self.model, self.inputs)
        return self._learned

    @property
    def scorer(self) -> Scorer:
        if self._scorer is None:
            self._scorer = scorer_of(self.recipe, self.settings, self.data, self.learned)
        return self._scorer

    def _forget(self) -> None:
        self._learned = self._scorer = None

    def _close_step(self) -> None:
        """RecBole does not say when its optimiser has moved; by the next call it has."""
        if self._step_is_open:
            self._steps, self._step_is_open = self._steps + 1, False
            for part in self._parts:
                part.after_step(self.inputs, self._steps, self.streams["views"])


@functools.cache
def recbole_model(recipe: str) -> type[GeneralRecommender]:
    """The class of a recipe (a name, or ``mypackage.myrecipe``) for RecBole's ``Config(model=...)``.

    Raises:
        ValueError: an unknown recipe, or one that RecBole's trainer cannot run.
    """
    module = find(recipe)
    if module.KIND != "general":
        raise ValueError(f"recipe {recipe!r} is for {module.KIND} data; RecBole's general models take users and items alone")
    own = [name for name in ("batches", "step") if name in vars(module)]
    if own:
        raise ValueError(
            f"recipe {recipe!r} has its own {' and '.join(own)}, and RecBole's trainer brings its own; use graphcl train"
        )
    parent = _ClosedForm if "restore" in vars(module) else _Trained
    # The prefix keeps RecBole from finding settings or a trainer of its own by the name.
    name = f"graphcl_{recipe.replace('.', '_')}"
    return _Named(name, (parent,), {"named": recipe, "recipe": module, "__module__": __name__, "__doc__": module.__doc__})


class Outcome(NamedTuple):
    """What a run of RecBole's flow found. Metrics are fractions under graphcl's keys."""

    model: Any
    config: Any
    valid: dict[str, float]
    test: dict[str, float]
    best_epoch: int | None  # from 1
    steps: int
    curve: list[dict[str, Any]]  # an entry for each epoch: epoch, loss, seconds, and valid where it was evaluated
    seconds: dict[str, float]  # load, train, rank


def run(model: str, dataset: str, settings: Mapping[str, Any] | None = None) -> Outcome:
    """RecBole's flow (config, data, its trainer, the best epoch's evaluation) for a recipe of ours or, as ``recbole:LightGCN``, a model
    of RecBole's.

    ``settings`` is RecBole's ``config_dict`` and goes over graphcl's cut-offs and metrics. As RecBole does, it seeds the global generators and
    writes checkpoints under ``checkpoint_dir``.

    Raises:
        ValueError: an unknown model or setting.
    """
    began = time.perf_counter()
    chosen = _theirs(model.removeprefix("recbole:")) if model.startswith("recbole:") else recbole_model(model)
    with compatible():
        config = Config(model=chosen, dataset=dataset, config_dict={**EVALUATION, "show_progress": False, **(settings or {})})
        check_evaluated(config)
        init_seed(config["seed"], config["reproducibility"])
        parts = data_preparation(config, create_dataset(config))
        init_seed(config["seed"], config["reproducibility"])
        made = config.model_class(config, parts[0].dataset).to(config["device"])
        trainer = _recording(get_trainer(config["MODEL_TYPE"], config["model"]))(config, made)
        loaded = time.perf_counter() - began
        trainer.fit(parts[0], parts[1], verbose=False)
        ranking = time.perf_counter()
        valid = metrics_of(trainer.evaluate(parts[1]))  # loads the best epoch
        test = metrics_of(trainer.evaluate(parts[2], load_best_model=False))
    curve, scores = trainer.curve, trainer.scores
    best = None
    if scores and config["MODEL_TYPE"] != ModelType.TRADITIONAL:
        sign = 1 if config["valid_metric_bigger"] else -1
        best = max(scores, key=lambda epoch: (sign * scores[epoch], epoch))  # of equally good ones RecBole keeps the last
    seconds = {
        "load": loaded,
        "train": sum(line["seconds"] for line in curve),
        "rank": trainer.rank_seconds + time.perf_counter() - ranking,
    }
    return Outcome(made, config, valid, test, best, len(curve) * len(parts[0]), curve, seconds)


def _theirs(name: str) -> str:
    try:
        get_model(name)
    except (ValueError, ImportError):  # an unknown name is sought in models that need LightGBM, too
        raise ValueError(f"RecBole has no model {name!r}; it has BPR, LightGCN, SASRec and others, spelled so") from None
    return name


def _recording(trainer: type) -> type:
    """RecBole's trainer, with what each epoch took and found."""

    class Recording(trainer):  # type: ignore[misc, valid-type]
        def __init__(self, config: Any, model: Any):
            super().__init__(config, model)
            self.curve: list[dict[str, Any]] = []
            self.scores: dict[int, float] = {}  # epoch, from 1 -> what chooses it
            self.rank_seconds = 0.0

        def _train_epoch(self, train_data: Any, epoch_idx: int, *args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            loss = super()._train_epoch(train_data, epoch_idx, *args, **kwargs)
            seconds = time.perf_counter() - began
            mean = (sum(loss) if isinstance(loss, tuple) else loss) / len(train_data)
            self.curve.append({"epoch": epoch_idx + 1, "loss": mean, "seconds": seconds})
            return loss

        def _valid_epoch(self, *args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            score, result = super()._valid_epoch(*args, **kwargs)
            self.rank_seconds += time.perf_counter() - began
            self.curve[-1]["valid"] = metrics_of(result)
            epoch = self.curve[-1]["epoch"]
            self.scores[epoch] = score
            if epoch <= getattr(getattr(self.model, "settings", None), "warm_up", 0):
                self.cur_step = -1  # part of the loss is not there yet, so no patience is spent; RecBole counts on from here
            return score, result

    return Recording
