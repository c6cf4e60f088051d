"""Runs on graphs with labelled nodes: train without labels, then probe the frozen embedding with them."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from graphcl import phase as phases
from graphcl import rundir
from graphcl.data.nodes import LabelSplit, NodeData, load_nodes
from graphcl.phase import Observer, Phase, Progress
from graphcl.probe import cluster_probe, label_probe
from graphcl.recipes.configure import configure, find, settings
from graphcl.streams import Streams
from graphcl.train import fit

QUICK_REPEATS = 5  # fits of the probe that chooses an epoch


class NodeEmbeddings(NamedTuple):
    """What was learned of each target node, in the order of the ids."""

    ids: np.ndarray  # [N]
    nodes: np.ndarray  # [N, d] float32


class NodeRun:
    """A finished run on a graph, read from its directory; it holds the embedding and the labels, and needs the graph no more."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config: dict[str, Any] = rundir.read_config(self.path)

    @cached_property
    def result(self) -> dict[str, Any]:
        return rundir.read_result(self.path)

    @cached_property
    def recipe(self) -> ModuleType:
        return find(self.config["recipe"])

    @cached_property
    def _kept(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        _ = self.result  # says so where the run is unfinished
        return rundir.read_tensors(self.path / "nodes.safetensors")

    def embeddings(self) -> NodeEmbeddings:
        tensors, _ = self._kept
        return NodeEmbeddings(tensors["ids"].numpy(), tensors["embedding"].numpy())

    def model(self, data: NodeData) -> tuple[nn.Module, Any]:
        """The trained model and the inputs it takes, made from the graph again: ``model.embed(inputs)`` is the embedding, and
        ``model.parameters()`` may be trained on.

        Raises:
            ValueError: other data than it was trained on, or a recipe without parameters.
        """
        if "embed" in vars(self.recipe):
            raise ValueError(f"{self.config['recipe']} has no parameters")
        if fingerprint(data) != self.config["fingerprint"]:
            raise ValueError(f"{self.path} was trained on other data than {data.name!r} as it is now")
        chosen, _ = configure(self.recipe, {"run": self.config["settings"]})
        phase = start(self.recipe, chosen, data, self.config["seed"], "cpu")
        phase.model.load_state_dict(rundir.read_tensors(self.path / "model.safetensors")[0])
        return phase.model, phase.inputs

    def evaluate(self, *, progress: Any = None) -> dict[str, dict[str, float]]:
        """The probes again: means of ``test`` and ``valid``, and of ``test_std`` the spread over fits (not over trainings)."""
        tensors, about = self._kept
        splits = {int(rate): LabelSplit(*(tensors[f"{part}_{rate}"] for part in LabelSplit._fields)) for rate in about["rates"]}
        return probed(tensors["embedding"], tensors["labels"], splits, self.config["settings"], self.config["seed"])


def train(
    recipe: str,
    data: str | Path | NodeData,
    *,
    out: str | Path | None = None,
    seed: int = 0,
    device: str = "cpu",
    resume: bool = False,
    config: Mapping[str, Any] | None = None,
    preset: str | None = None,
    observe: Observer | None = None,
    on_start: Callable[[Path], None] | None = None,
    **changes: Any,
) -> NodeRun:
    """Trains on the graph alone, probes with the labels and writes a run directory; arguments as of ``graphcl.train``.

    ``select="loss"`` keeps the weights of the lowest training loss, "ma_f1" and "mi_f1" those whose embedding is best on the
    validation nodes, on average over label rates. Test nodes choose nothing.

    Raises:
        ValueError: an unknown recipe or setting, bad data, a directory in use, or of another run.
        FloatingPointError: training diverged.
    """
    began = time.perf_counter()
    module = find(recipe)
    made = data if isinstance(data, NodeData) else load_nodes(data)
    key = preset or (f"hetero/{made.name}" if made.citation else None)
    chosen, sources = configure(
        module, {"preset": vars(module).get("PRESETS", {}).get(key, {}), "config": config or {}, "set": changes}
    )
    about = {
        "format": rundir.FORMAT, "kind": "hetero", "recipe": recipe, "dataset": made.name, "seed": seed, "protocol": "valid",
        "preset": key, "settings": settings(chosen), "sources": sources, "fingerprint": fingerprint(made),
    }  # fmt: skip
    directory = rundir.claim(out, about, resume)
    if resume and (directory / "result.json").exists():
        return NodeRun(directory)
    loaded = time.perf_counter() - began
    began = time.perf_counter()
    phase = None if "embed" in vars(module) else start(module, chosen, made, seed, device)
    built = time.perf_counter() - began
    rundir.write_json(directory / "config.json", about)
    rundir.write_json(directory / "versions.json", rundir.versions(device))
    if on_start is not None:
        on_start(directory)
    if phase is None:
        embedding = module.embed(chosen, made, rng=Streams(seed)["init"])
        progress = Progress(seconds=time.perf_counter() - began)
    else:
        run(phase, chosen, made, directory, observe)
        embedding, progress = phase.model.embed(phase.inputs).cpu(), phase.progress
        rundir.write_tensors(directory / "model.safetensors", phase.model.state_dict())
    ids = torch.arange(len(embedding)) if made.ids is None else torch.from_numpy(np.asarray(made.ids))
    tensors = {"embedding": embedding.float(), "labels": made.labels, "ids": ids}
    tensors |= {f"{part}_{rate}": rows for rate, split in made.splits.items() for part, rows in split._asdict().items()}
    rundir.write_tensors(directory / "nodes.safetensors", tensors, {"rates": list(made.splits)})
    began = time.perf_counter()
    metrics = probed(embedding.float(), made.labels, made.splits, settings(chosen), seed)
    result = {
        **{k: about[k] for k in ("recipe", "dataset", "seed", "protocol")},
        "epochs": progress.epoch,
        "steps": progress.steps,
        "best_epoch": progress.best_epoch or None,
        "selected_on": None if phase is None else {"loss": "loss", "last": None}.get(chosen.select, "valid"),
        "metrics": metrics,
        "seconds": {"load": loaded + built, "train": progress.seconds, "probe": time.perf_counter() - began},
        "run": str(directory),
    }
    rundir.write_json(directory / "result.json", result)
    return NodeRun(directory)


def start(module: ModuleType, config: Any, data: NodeData, seed: int, device: str) -> Phase:
    """A phase before its first epoch."""
    streams = Streams(seed)
    inputs = module.inputs(config, data, rng=streams["inputs"])
    model = module.build(config, data, inputs, rng=streams["init"]).to(device)
    inputs = inputs.to(device)
    batches = module.batches(config, data)
    return Phase(model, inputs, module.step(config, model), batches, streams, {}, Progress())


def run(phase: Phase, config: Any, data: NodeData, directory: Path | None, observe: Observer | None = None) -> Phase:
    """Trains to the end or until patience is spent, then restores the weights that were chosen.

    With ``directory``, a checkpoint and a line of metrics are written every ``evaluate_every`` epochs and at the end.
    """
    if directory is not None:
        log, saved = directory / "metrics.jsonl", directory / "checkpoint.safetensors"
        if saved.exists():
            phases.restore(phase, saved)
        rundir.keep_lines(log, phase.progress.lines)
    if phase.progress.finished:
        return _chosen(phase, config)
    by_loss = config.select in ("loss", "last")
    for epoch in fit(
        phase.model, phase.inputs, step=phase.step, batches=phase.batches, streams=phase.streams, epochs=config.epochs,
        done=phase.progress.epoch,
    ):  # fmt: skip
        p = phase.progress
        p = replace(p, epoch=epoch.number, steps=p.steps + epoch.steps, seconds=p.seconds + epoch.seconds)
        due = epoch.number % config.evaluate_every == 0 or epoch.number == config.epochs
        line: dict[str, Any] = {"epoch": epoch.number, "terms": epoch.terms, "seconds": epoch.seconds, "elapsed": p.seconds}
        score = -math.fsum(epoch.terms.values()) if by_loss else None
        if due and not by_loss:
            began = time.perf_counter()
            line["valid"] = quick(phase.model.embed(phase.inputs).cpu(), data, config)
            score = line["valid"][config.select]
            p = replace(p, rank_seconds=p.rank_seconds + time.perf_counter() - began)
        if score is not None:
            better = score > p.best_score
            p = replace(p, waited=0, best_score=score, best_epoch=epoch.number) if better else replace(p, waited=p.waited + 1)
            if better and config.select != "last":
                phase.best = {k: v.detach().clone() for k, v in phase.model.state_dict().items()}
        stop = epoch.number == config.epochs or bool(config.patience and p.waited >= config.patience)
        phase.progress = replace(p, lines=p.lines + (due or stop), finished=stop)
        if (due or stop) and directory is not None:
            rundir.append_line(log, line)
            phases.save(phase, saved)
        if observe is not None:
            observe("epoch", line)
        if stop:
            break
    return _chosen(phase, config)


def _chosen(phase: Phase, config: Any) -> Phase:
    if phase.best:
        phase.model.load_state_dict(phase.best)
    if config.select == "last":
        phase.progress = replace(phase.progress, best_epoch=phase.progress.epoch)
    return phase


def quick(embedding: Tensor, data: NodeData, config: Any) -> dict[str, float]:
    """Macro-F1 and micro-F1 on validation nodes, on average over label rates."""
    report = label_probe(
        embedding, data.labels, data.splits, repeats=QUICK_REPEATS, learning_rate=config.probe_learning_rate,
        weight_decay=config.probe_weight_decay, rng=torch.Generator().manual_seed(0),
    )  # fmt: skip
    names = ("ma_f1", "mi_f1")
    return {name: float(np.mean([v for k, v in report.valid.items() if k.startswith(f"{name}@")])) for name in names}


def probed(
    embedding: Tensor, labels: Tensor, splits: Mapping[int, LabelSplit], chosen: Mapping[str, Any], seed: int
) -> dict[str, dict[str, float]]:
    """Every metric of the finished embedding, fractions."""
    fits = label_probe(
        embedding, labels, splits, learning_rate=chosen.get("probe_learning_rate", 0.01),
        weight_decay=chosen.get("probe_weight_decay", 0.0), rng=Streams(seed)["probe"],
    )  # fmt: skip
    clusters = cluster_probe(embedding, labels, seed=seed)
    return {
        "test": {**fits.means, **clusters.means},
        "test_std": {**fits.stds, **clusters.stds},
        "valid": dict(fits.valid),
    }


def fingerprint(data: NodeData) -> str:
    """Of every relation, label and split, in order."""
    digest = hashlib.sha256()
    for (a, b), matrix in sorted(data.graph.relations.items()):
        digest.update(f"{a}-{b}".encode())
        digest.update(matrix.indptr.astype(np.int64).tobytes())
        digest.update(matrix.indices.astype(np.int64).tobytes())
    for tensor in (data.labels, *(rows for split in data.splits.values() for rows in split)):
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
