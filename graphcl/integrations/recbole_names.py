"""Settings and metrics by graphcl's names and by RecBole's; nothing here needs RecBole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphcl import phase as phases
from graphcl.metrics import ACCURACY, parse
from graphcl.recipes.configure import configure, find

# What RecBole's trainer decides: graphcl's name -> RecBole's, None where there is no choice.
TRAINER_KEYS = {
    "learning_rate": "learning_rate",
    "batch_size": "train_batch_size",
    "epochs": "epochs",
    "patience": "stopping_step",
    "evaluate_every": "eval_step",
    "select": "valid_metric",
    "balance": None,
    "rate_decay": None,
    "lowest_rate": None,
}
METRICS = {"hr": "Hit", "ndcg": "NDCG", "mrr": "MRR", "map": "MAP", "recall": "Recall", "precision": "Precision"}
EVALUATION = {
    "metrics": [METRICS[name] for name in ACCURACY],
    "topk": list(phases.CUTOFFS),
    "valid_metric": "NDCG@20",
    "metric_decimal_place": 16,  # RecBole rounds
    "eval_batch_size": 2**22,  # scores; at the default of 4096 a batch holds two users of MovieLens
}


def settings_for(recipe: str, settings: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """RecBole's settings for those that ``graphcl train`` takes, and its evaluation with graphcl's metrics and cut-offs.

    Raises:
        ValueError: an unknown setting; users drawn uniformly or a falling learning rate, which RecBole does not do.
    """
    config, _ = configure(find(recipe), {"settings": settings or {}})
    values = dict(vars(config))
    found = dict(EVALUATION)
    if "select" in values:
        check_trainer(config)
        found["topk"] = sorted({*phases.CUTOFFS, parse(values["select"]).k})
        found |= {str(TRAINER_KEYS[key]): values[key] for key in ("learning_rate", "batch_size", "epochs", "evaluate_every")}
        # RecBole stops at the first evaluation beyond stopping_step.
        found |= {"stopping_step": (values["patience"] or values["epochs"] + 1) - 1, "valid_metric": metric_for(values["select"])}
    return {**found, "graphcl_settings": {key: value for key, value in values.items() if key not in TRAINER_KEYS}}


def check_trainer(config: Any) -> None:
    """Raises ValueError for settings of a recipe that RecBole's trainer would pass over."""
    if getattr(config, "balance", "interactions") != "interactions":
        raise ValueError("RecBole draws each interaction once an epoch: balance must be 'interactions'")
    if getattr(config, "rate_decay", 1) != 1:
        raise ValueError(f"RecBole's learning rate stays what it is: rate_decay must be 1, got {config.rate_decay}")


def check_evaluated(config: Any) -> None:
    """Raises ValueError for a metric that is not among those evaluated, on which RecBole would stop after the first epoch."""
    name, _, k = config["valid_metric"].partition("@")
    if not k.isdecimal() or int(k) not in config["topk"] or name.lower() not in {metric.lower() for metric in config["metrics"]}:
        raise ValueError(
            f"valid_metric {config['valid_metric']!r} must be one of metrics ({', '.join(config['metrics'])}) "
            f"at one of topk {config['topk']}"
        )


def metric_for(key: str) -> str:
    """RecBole's name of the metric that chooses. Raises ValueError for what cannot choose an epoch."""
    name, _, k = phases.check_selection(key).partition("@")
    return f"{METRICS[name]}@{k}"


def metrics_of(result: Mapping[str, Any]) -> dict[str, float]:
    """RecBole's ranking metrics under graphcl's keys (``hit@10`` is ``hr@10``). One that graphcl has not is left out."""
    ours = {theirs.lower(): name for name, theirs in METRICS.items()}
    parts = ((key.partition("@"), value) for key, value in result.items())
    return {f"{ours[name]}@{k}": float(value) for (name, _, k), value in parts if name in ours}
