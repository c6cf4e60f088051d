"""What the trials of a study share, for each kind of recipe: the data, the settings that a trial changes, and what scores it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, NamedTuple

from graphcl import phase as phases
from graphcl import pretrain, runs, sequence_run
from graphcl.data import protocol as protocols
from graphcl.data.attributed import AttributedData
from graphcl.data.fingerprint import of_graph, of_histories, of_split
from graphcl.data.registry import full_name
from graphcl.metrics import parse
from graphcl.phase import Phase
from graphcl.probe import k_means, modularity
from graphcl.recipes.configure import configure, preset_of
from graphcl.recipes.parts import scorer_of
from graphcl.sequence_rank import evaluate_next
from graphcl.streams import Streams

Scored = tuple[float, int | None]  # the best epoch's score, and that epoch; a closed form has no epochs


class Asked(NamedTuple):
    recipe: str
    module: ModuleType
    data: Any
    protocol: str
    metric: str | None
    options: Mapping[str, Any]  # of the reader and the split
    fixed: Mapping[str, Any]  # settings
    seed: int
    device: str


@dataclass(frozen=True)
class Task:
    dataset: str
    fingerprint: str
    base: Any  # the Config that a trial changes
    metric: str
    score: Callable[[Any, phases.Observer], Scored]  # of a Config
    heard: Callable[[Mapping[str, Any]], float | None]  # the score in a line of metrics


def task(asked: Asked) -> Task:
    """Raises ValueError for a protocol without validation, bad data, unknown settings, or a metric that cannot choose."""
    if asked.metric is not None and "select" in asked.fixed:
        raise ValueError("give the metric or the setting 'select', not both")
    kind = asked.module.KIND
    return _general(asked) if kind == "general" else _sequential(asked) if kind == "sequential" else _graph(asked)


def _general(asked: Asked) -> Task:
    module, seed = asked.module, asked.seed
    metric = None if asked.metric is None else phases.check_selection(asked.metric)
    made, key = runs.load_data(asked.data, asked.protocol, **asked.options)
    made = replace(made, test=None)  # from here on nothing can see it
    closed = "restore" in vars(module)
    base, _ = configure(module, {**runs.defaults(module, asked.protocol, key), "set": {**asked.fixed, **_select(metric, closed)}})
    if not closed:
        phases.check(base)
        _check_epochs(base)
    metric = metric or "ndcg@20" if closed else phases.check_selection(base.select)
    plan = protocols.plan(made, asked.protocol)

    def score(config: Any, observe: phases.Observer) -> Scored:
        if closed:
            scorer = module.build(config, plan.train, rng=Streams(seed)["init"])
            return phases.select_report(scorer, plan, metric).means[metric], None
        phase = phases.start(module, config, plan.train, seed, asked.device)
        score, epoch = _best(phases.run(phase, plan, config, None, epochs=config.epochs, observe=observe))
        if "scorer" in vars(module):  # the epoch is the embeddings' best, as in a run; the trial is scored by what ranks
            scorer = scorer_of(module, config, plan.train, phases.scorer(phase.model, phase.inputs))
            score = phases.select_report(scorer, plan, metric).means[metric]
        return score, epoch

    return Task(made.name, of_split(made), base, metric, score, lambda line: line.get("valid", {}).get(metric))


def _sequential(asked: Asked) -> Task:
    module, seed = asked.module, asked.seed
    made = replace(sequence_run.load_split(asked.data, asked.protocol, asked.options), test=None)
    closed = "restore" in vars(module)
    base = _configured(asked, full_name(made.kind, made), _select(asked.metric, closed))
    if not closed:
        sequence_run.check(base)
        _check_epochs(base)
    metric = parse((asked.metric or "ndcg@10") if closed else base.select).key
    part = "valid" if closed or base.seen == "keep" else "valid_masked"

    def score(config: Any, observe: phases.Observer) -> Scored:
        assert made.valid is not None
        if closed:
            scorer = module.build(config, made.train, rng=Streams(seed)["init"])
            return evaluate_next(scorer, made.valid, ks=(parse(metric).k,)).keep[metric], None
        phase = phases.start(module, config, made.train, seed, asked.device)
        return _best(sequence_run.run(phase, config, made, None, device=asked.device, observe=observe))

    return Task(
        made.name, of_histories(made), base, metric, score, lambda line: line.get(part, {}).get(metric)
    )  # fmt: skip


def _graph(asked: Asked) -> Task:
    """Of labelled nodes those of validation choose; of an attributed graph the modularity of its clusters, which needs no label."""
    module, seed = asked.module, asked.seed
    if asked.protocol != "valid":
        raise ValueError(f"{asked.recipe} trains on a graph; it is tuned under protocol valid, not {asked.protocol!r}")
    pretrain.check_options(asked.recipe, module.KIND, asked.protocol, asked.options)
    known = ("modularity",) if module.KIND == "attributed" else ("ma_f1", "mi_f1")
    metric = asked.metric or asked.fixed.get("select") or known[0]
    if metric not in known:
        raise ValueError(f"{asked.recipe} is tuned by {' or '.join(known)}, not by {metric!r}")
    data = pretrain.load_graph(module.KIND, asked.data, asked.options)
    if not isinstance(data, AttributedData) and not data.splits:
        raise ValueError(f"{data.name} has no splits, so {metric} on validation nodes cannot choose; add splits to tune")
    closed = "embed" in vars(module)
    base = _configured(asked, full_name(module.KIND, data), _select(metric, closed))
    if not closed:
        phases.check_loop(base)
        _check_epochs(base)

    def score(config: Any, observe: phases.Observer) -> Scored:
        if not closed:
            phase = pretrain.start(module, config, data, seed, asked.device)
            return _best(pretrain.run(phase, config, data, None, observe, seed=seed))
        embedding = module.embed(config, data, rng=Streams(seed)["init"])
        if isinstance(data, AttributedData):
            return modularity(data.graph, k_means(embedding, data.num_clusters, seed=seed)), None
        return pretrain.quick(embedding, data, config)[metric], None

    return Task(
        data.name, of_graph(data), base, metric, score,
        lambda line: line.get("modularity", line.get("valid", {}).get(metric)),
    )  # fmt: skip


def _configured(asked: Asked, key: str | None, select: Mapping[str, Any]) -> Any:
    layers = {"preset": preset_of(asked.module, key), "set": {**asked.fixed, **select}}
    return configure(asked.module, layers)[0]


def _select(metric: str | None, closed: bool) -> dict[str, str]:
    return {} if closed or metric is None else {"select": metric}


def _check_epochs(config: Any) -> None:
    if config.epochs < 1:
        raise ValueError("tuning needs an epoch or more")


def _best(phase: Phase) -> Scored:
    return phase.progress.best_score, phase.progress.best_epoch
