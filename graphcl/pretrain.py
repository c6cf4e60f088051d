"""Runs on graphs with labelled nodes: train without labels, then hold the frozen embedding, and the clusters, against them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from graphcl import claims, geometry, rundir
from graphcl import phase as phases
from graphcl.data.attributed import AttributedData, load_attributed
from graphcl.data.fingerprint import of_graph
from graphcl.data.nodes import LabelSplit, NodeData, load_nodes
from graphcl.data.registry import full_name
from graphcl.phase import Observer, Phase, Progress
from graphcl.probe import check_split, cluster_probe, clustering, k_means, label_probe, modularity
from graphcl.recipes.configure import configure, find, preset_of, settings
from graphcl.streams import Streams
from graphcl.train import Epoch

NodeGraph: TypeAlias = NodeData | AttributedData

QUICK_REPEATS = 5  # fits of the probe that chooses an epoch
PROTOCOLS = {"hetero": ("valid",), "attributed": ("valid", "as-published")}  # of each kind of graph
CLUSTER_METRICS = ("acc", "nmi", "ari", "f1")
SELECTED_ON = {"loss": "loss", "last": None, "modularity": "modularity"}  # else validation


class NodeEmbeddings(NamedTuple):
    """What was learned of each target node, in the order of the ids."""

    ids: np.ndarray  # [N]
    nodes: np.ndarray  # [N, d] float32


class NodeRun(rundir.Finished):
    """A finished run on a graph, read from its directory; it holds the embedding and the labels, and needs the graph no more."""

    @cached_property
    def _kept(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        _ = self.result  # says so where the run is unfinished
        return rundir.read_tensors(self.path / "nodes.safetensors")

    def embeddings(self) -> NodeEmbeddings:
        tensors, _ = self._kept
        return NodeEmbeddings(rundir.read_ids(self.path, "nodes"), tensors["embedding"].numpy())

    def clusters(self) -> np.ndarray:  # [N] int64
        """The cluster of each node: the model's own, or those of k-means on the embedding, with as many clusters as there are classes.

        Raises:
            ValueError: there is no class, and no number of clusters was told.
        """
        tensors, about = self._kept
        if "clusters" in tensors:
            return tensors["clusters"].numpy()
        if not about["num_clusters"]:
            told = "there are no classes and no num_clusters was given; graphcl.probe.k_means takes any number"
            raise ValueError(f"{self.path}: how many clusters to look for is not known, for {told}")
        return k_means(tensors["embedding"], about["num_clusters"], seed=self.config["seed"]).numpy()

    def model(self, data: Any) -> tuple[nn.Module, Any]:
        """The trained model and the inputs it takes, made from the graph again, which may be all that ``train`` takes:
        ``model.embed(inputs)`` is the embedding, and ``model.parameters()`` may be trained on.

        Raises:
            ValueError: other data than it was trained on, or a recipe without parameters.
        """
        if "embed" in vars(self.recipe):
            raise ValueError(f"{self.config['recipe']} has no parameters")
        if not isinstance(data, (NodeData, AttributedData)):
            data = load_graph(self.recipe.KIND, data, self.config.get("options"))
        if of_graph(data) != self.config["fingerprint"]:
            raise ValueError(f"{self.path} was trained on other data than {data.name!r} as it is now")
        phase = start(self.recipe, self._settings, data, self.config["seed"], "cpu")
        phase.model.load_state_dict(rundir.read_tensors(self.path / "model.safetensors")[0])
        return phase.model, phase.inputs

    def evaluate(self, *, progress: Any = None) -> dict[str, dict[str, float]]:
        """The metrics again: means of ``test`` and ``valid``, and of ``test_std`` the spread over fits (not over trainings). The maxima of
        the protocol as-published are not found again, but taken from the result.
        ``embedding``: how the nodes lie (:func:`graphcl.geometry.of_nodes`)."""
        tensors, about = self._kept
        splits = {int(rate): LabelSplit(*(tensors[f"{part}_{rate}"] for part in LabelSplit._fields)) for rate in about["rates"]}
        found = probed(
            tensors["embedding"], tensors["labels"], splits, self.config["settings"], self.config["seed"],
            clusters=tensors.get("clusters"), num_clusters=about["num_clusters"],
        )  # fmt: skip
        maxima = self.result.get("best_epochs", {})
        return as_published(found, {key: self.result["metrics"]["test"][key] for key in maxima}) if maxima else found


@claims.training
def train(
    recipe: str,
    data: Any,
    *,
    out: str | Path | None = None,
    seed: int = 0,
    protocol: str = "valid",
    device: str = "cpu",
    resume: bool = False,
    config: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    preset: str | None = None,
    observe: Observer | None = None,
    on_start: Callable[[Path], None] | None = None,
    **changes: Any,
) -> NodeRun:
    """Trains on the graph alone, evaluates with the labels and writes a run directory; arguments as of ``graphcl.train``. ``data`` is a
    registered name, a path, NodeData or AttributedData (or a PyG ``Data``), as the recipe's kind has it. ``options``: ``num_clusters`` of
    an attributed graph.

    ``select="loss"`` keeps the weights of the lowest training loss, "ma_f1" and "mi_f1" (of a heterogeneous graph) those whose embedding
    is best on the validation nodes, on average over label rates, "modularity" (of an attributed one) those of the most modular clusters.
    Test nodes choose nothing.

    On attributed graphs ``test`` holds ``acc``, ``nmi``, ``ari`` and ``f1`` of the model's own clusters, and ``kmeans`` those of k-means
    on the embedding; where the model has no clusters, ``test`` those of k-means. The protocol "as-published" evaluates the clusters after
    every epoch, as releases do, and gives each metric's maximum as ``test`` (``best_epochs`` tells where), and what is chosen without
    labels as ``chosen``.

    Raises:
        ValueError: an unknown recipe or setting, bad data, a ``select`` that needs splits where there are none, a directory in use, or
            of another run.
        FloatingPointError: training diverged.
    """
    began = time.perf_counter()
    module = find(recipe)
    kind, published = module.KIND, protocol == "as-published"
    check_options(recipe, kind, protocol, options or {})
    made = load_graph(kind, data, options)
    for rate, split in made.splits.items():
        check_split(f"{made.name}, label rate {rate}", split, made.labels)
    if published and len(made.labels[made.labels >= 0].unique()) < 2:
        told = "has no labels of two classes, and as-published takes the maximum over epochs against them; use protocol valid"
        raise ValueError(f"{made.name} {told}")
    key = preset or full_name(kind, made)
    chosen, sources = configure(module, {"preset": preset_of(module, key), "config": config or {}, "set": changes})
    closed = "embed" in vars(module)
    if not closed:
        phases.check_loop(chosen)
        if published and not chosen.epochs:
            raise ValueError("as-published takes the maximum over epochs, so epochs must be 1 or more")
    if not closed and chosen.select not in SELECTED_ON and not made.splits:
        told = f"scores a probe on validation nodes, but {made.name} has no splits; set select=loss (or last)"
        raise ValueError(f"select={chosen.select!r} {told}")
    about = {
        "format": rundir.FORMAT, "kind": kind, "recipe": recipe, "dataset": made.name, "seed": seed, "protocol": protocol,
        "preset": key, "settings": settings(chosen), "sources": sources, "fingerprint": of_graph(made),
        **rundir.given(data, options),
    }  # fmt: skip
    directory = claims.claim(out, about, resume)
    if resume and claims.is_done(directory, about):
        return NodeRun(directory)
    loaded = time.perf_counter() - began
    began = time.perf_counter()
    phase = None if closed else start(module, chosen, made, seed, device)
    embedding = module.embed(chosen, made, rng=Streams(seed)["init"]) if closed else torch.empty(0)
    built = time.perf_counter() - began
    directory = claims.write_beginning(out, about, device, resume)
    if on_start is not None:
        on_start(directory)
    clusters, best = None, {}
    if phase is None:
        loaded, progress = loaded - built, Progress(seconds=built)
    else:
        phases.warm_up(module, chosen, phase)
        run(phase, chosen, made, directory, observe, published=published, seed=seed)
        embedding, progress = phase.model.embed(phase.inputs).cpu(), phase.progress
        clusters = own_clusters(phase) if kind == "attributed" else None
        best = maxima(directory) if published else {}
        rundir.write_tensors(directory / "model.safetensors", phase.model.state_dict())
    rundir.write_ids(directory, nodes=np.arange(len(embedding)) if made.ids is None else made.ids)
    tensors = {"embedding": embedding.float(), "labels": made.labels}
    tensors |= {f"{part}_{rate}": rows.clone() for rate, split in made.splits.items() for part, rows in split._asdict().items()}
    tensors |= {} if clusters is None else {"clusters": clusters}
    num_clusters = clusters_in(made)
    rundir.write_tensors(
        directory / "nodes.safetensors", tensors, {"rates": [int(rate) for rate in made.splits], "num_clusters": num_clusters}
    )
    began = time.perf_counter()
    metrics = probed(
        embedding.float(), made.labels, made.splits, settings(chosen), seed, clusters=clusters, num_clusters=num_clusters
    )
    if best:
        metrics = as_published(metrics, {metric: value for metric, (value, _) in best.items()})
    rundir.write_result(
        directory, about, epochs=progress.epoch, steps=progress.steps, best_epoch=progress.best_epoch,
        selected_on="test" if best else None if phase is None else SELECTED_ON.get(chosen.select, "valid"), metrics=metrics,
        seconds={"load": loaded + built, "train": progress.seconds, "probe": time.perf_counter() - began},
        **({"best_epochs": {metric: epoch for metric, (_, epoch) in best.items()}} if best else {}),
    )  # fmt: skip
    return NodeRun(directory)


def check_options(recipe: str, kind: str, protocol: str, options: Mapping[str, Any]) -> None:
    """Raises ValueError for options of the reader, or a protocol, that a recipe for graphs does not have."""
    taken = ("num_clusters",) if kind == "attributed" else ()
    refused = [key for key in options if key not in taken]
    refused += [] if protocol in PROTOCOLS[kind] else ["protocol"]
    if refused:
        known = " or ".join(PROTOCOLS[kind])
        raise ValueError(f"{recipe} trains on a graph, for which {', '.join(refused)} cannot be set; its protocol is {known}")


def load_graph(kind: str, data: Any, options: Mapping[str, Any] | None = None) -> NodeGraph:
    """What a recipe of the kind trains on; ``options`` are those of `load_attributed`.

    Raises:
        ValueError: data of another kind, or what the reader refuses.
    """
    if kind == "attributed":
        return load_attributed(data, **(options or {}))
    if not isinstance(data, (str, Path, NodeData)):
        given = type(data).__name__
        graph = {"HeteroGraph": "graph", "HeteroData": "HeteroGraph.from_pyg(data, target)"}.get(given)
        how = f", which has no meta-paths; give NodeData.from_graph({graph}, metapaths)" if graph else ""
        raise ValueError(f"a heterogeneous graph is needed: a name, a folder or NodeData, got {given}{how}")
    return data if isinstance(data, NodeData) else load_nodes(data)


def start(module: ModuleType, config: Any, data: NodeGraph, seed: int, device: str) -> Phase:
    """A phase before its first epoch, and before what its model does to begin (:func:`graphcl.phase.begin`)."""
    streams = Streams(seed)
    inputs = module.inputs(config, data, rng=streams["inputs"])
    model = module.build(config, data, inputs, rng=streams["init"]).to(device)
    inputs = inputs.to(device)
    batches = module.batches(config, data)
    return Phase(model, inputs, module.step(config, model), batches, streams, {}, Progress())


def run(
    phase: Phase,
    config: Any,
    data: NodeGraph,
    directory: Path | None,
    observe: Observer | None = None,
    *,
    published: bool = False,
    seed: int = 0,
) -> Phase:
    """Trains to the end or until patience is spent, then restores the weights that were chosen.

    With ``directory``, a checkpoint and a line of metrics are written every ``evaluate_every`` epochs and at the end. ``published`` also
    evaluates the clusters after every epoch, and writes a line for each.
    """
    by_loss = config.select in ("loss", "last")

    def assess(epoch: Epoch, due: bool) -> phases.Assessed:
        line: dict[str, Any] = {}
        score = -math.fsum(epoch.terms.values()) if by_loss else None
        if due and config.select == "modularity":
            assert isinstance(data, AttributedData)  # no other kind has this setting
            score = line["modularity"] = modularity(data.graph, assigned(phase, data, seed))
        elif due and not by_loss:
            line["valid"] = quick(phase.model.embed(phase.inputs).cpu(), data, config)
            score = line["valid"][config.select]
        if published:
            line["test"] = clustering(data.labels, assigned(phase, data, seed))
        return line, score

    phases.epochs_of(phase, config, directory, assess, epochs=config.epochs, each_line=published, observe=observe)
    if config.select == "last":
        phase.progress = replace(phase.progress, best_epoch=phase.progress.epoch)
    return phase


@torch.no_grad()
def own_clusters(phase: Phase) -> Tensor | None:  # [N] int64
    """Those of a model that has ``clusters(inputs)``; None of one that has not."""
    found = getattr(type(phase.model), "clusters", None)  # of the class, for a parameter may have the name
    return None if found is None else found(phase.model, phase.inputs).cpu()


def assigned(phase: Phase, data: NodeGraph, seed: int) -> Tensor:  # [N] int64
    """The model's clusters, or else those of one k-means on its embedding."""
    found = own_clusters(phase)
    return k_means(phase.model.embed(phase.inputs), clusters_in(data), seed=seed) if found is None else found


def clusters_in(data: NodeGraph) -> int:
    return data.num_clusters if isinstance(data, AttributedData) else data.num_classes


def maxima(directory: Path) -> dict[str, tuple[float, int]]:
    """The highest value of each metric over all epochs, and its first epoch."""
    lines = rundir.log_lines(directory)
    best = {}
    for metric in CLUSTER_METRICS:
        values = [line["test"][metric] for line in lines]
        best[metric] = max(values), lines[values.index(max(values))]["epoch"]
    return best


def as_published(found: dict[str, dict[str, float]], highest: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Metrics with the maxima in the place of those of the chosen epoch, which go to ``chosen``."""
    chosen = {key: found["test"][key] for key in highest}
    spread = {key: value for key, value in found["test_std"].items() if key not in highest}
    return {**found, "test": {**found["test"], **highest}, "test_std": spread, "chosen": chosen}


def quick(embedding: Tensor, data: NodeGraph, config: Any) -> dict[str, float]:
    """Macro-F1 and micro-F1 on validation nodes, on average over label rates."""
    report = label_probe(
        embedding, data.labels, data.splits, repeats=QUICK_REPEATS, learning_rate=config.probe_learning_rate,
        weight_decay=config.probe_weight_decay, rng=torch.Generator().manual_seed(0),
    )  # fmt: skip
    names = ("ma_f1", "mi_f1")
    return {name: float(np.mean([v for k, v in report.valid.items() if k.startswith(f"{name}@")])) for name in names}


def probed(
    embedding: Tensor,  # [N, d]
    labels: Tensor,  # [N] int64
    splits: Mapping[int, LabelSplit],
    chosen: Mapping[str, Any],
    seed: int,
    *,
    clusters: Tensor | None = None,  # [N] int64, of the model
    num_clusters: int | None = None,
) -> dict[str, dict[str, float]]:
    """Every metric of the finished embedding, and of the model's clusters if it has any, fractions. Without labels there is none."""
    test, spread, valid, kmeans = {}, {}, {}, {}
    if splits:
        fits = label_probe(
            embedding, labels, splits, learning_rate=chosen.get("probe_learning_rate", 0.01),
            weight_decay=chosen.get("probe_weight_decay", 0.0), rng=Streams(seed)["probe"],
        )  # fmt: skip
        test, spread, valid = dict(fits.means), dict(fits.stds), {"valid": dict(fits.valid)}
    known = labels[labels >= 0]
    if len(known.unique()) > 1:
        if clusters is not None:
            test |= clustering(labels, clusters)
        if len(known) >= (num_clusters or 0):  # k-means is of the nodes that have a label
            probe = cluster_probe(embedding, labels, num_clusters=num_clusters, seed=seed)
            if clusters is None:
                test, spread = {**test, **probe.means}, {**spread, **probe.stds}
            else:
                kmeans = {"kmeans": probe.means, "kmeans_std": probe.stds}
    return {"test": test, "test_std": spread, **valid, **kmeans, "embedding": geometry.of_nodes(embedding, labels)}
