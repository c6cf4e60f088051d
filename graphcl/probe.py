"""Probes on frozen embeddings: what a logistic regression, and what k-means, finds of the classes; and how near given clusters come.

Metrics are fractions; keys carry the label rate, the number of training nodes per class: ``ma_f1@20``, ``mi_f1@20``, ``auc@20``.
Their spread is that of the probes of one embedding (where a fit began), not that of training runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from graphcl.graph import Graph

Split = tuple[Tensor, Tensor, Tensor]  # train, valid and test ids, [n] int64 each


@dataclass(frozen=True, eq=False)
class LabelReport:
    """Macro-F1, micro-F1 and ROC AUC on the test nodes of each label rate."""

    means: dict[str, float]
    stds: dict[str, float]  # over the fits, dividing by their number
    fits: dict[str, np.ndarray]  # [repeats] each
    valid: dict[str, float]  # means on the validation nodes, ``ma_f1`` and ``mi_f1`` only: what a model may be chosen on


@dataclass(frozen=True, eq=False)
class ClusterReport:
    """The metrics of :func:`clustering`."""

    means: dict[str, float]
    stds: dict[str, float]  # over the fits, dividing by their number
    fits: dict[str, np.ndarray]  # [repeats] each


def label_probe(
    embeddings: Tensor,  # [N, d] float32 or float64
    labels: Tensor,  # [N] int64, -1 = unlabelled
    splits: Mapping[int, Split],  # by label rate
    *,
    repeats: int = 50,
    learning_rate: float = 0.01,
    weight_decay: float = 0.0,
    steps: int = 200,
    rng: torch.Generator,
) -> LabelReport:
    """Logistic regressions at each label rate, by Adam on all training nodes, from ``repeats`` Xavier-uniform starts.

    Each fit is scored on test at two of its steps: macro-F1 at the first with the best macro-F1 on validation, micro-F1 and AUC (of
    the softmax, one class against the rest, mean over classes) at the first with the best micro-F1. The weight decay is Adam's L2 term,
    on the bias too.

    The classes are the different labels of all nodes, whatever their numbers. F1 of a class that neither stands among the nodes nor is
    predicted is left out of the mean; of a class that only one of them has it is 0. AUC is the mean over the classes that test has. An id that
    stands in a part twice counts twice; rates may share nodes.

    Raises:
        ValueError: embeddings that are not finite or not a table of floats, labels that do not fit them or are of one class, a part
            that is empty or names an unlabelled node or one out of range, a node in two parts of a rate, test nodes of one class,
            a setting out of its range, fits that diverge.

    Source: liun-online/HeCo@20e8ca2 and jianxiangyu/MEOW@6a072d7, whose protocol is one (it descends from DMGI's).
    Departs: all fits are one tensor; test is looked at only at the chosen steps, which gives the same numbers; every rate starts from
    the same weights, so that it gives the same alone; AUC where test lacks a class, which is an error there.
    """
    _check_embeddings(embeddings, labels)
    for name, value in (("repeats", repeats), ("steps", steps)):
        if value < 1:
            raise ValueError(f"{name} must be 1 or more, got {value}")
    if not 0 < learning_rate < math.inf or not 0 <= weight_decay < math.inf:
        raise ValueError(f"learning_rate must be above 0 and weight_decay 0 or more, got {learning_rate} and {weight_decay}")
    if not splits:
        raise ValueError("splits must hold one label rate or more, got none")
    for rate, split in splits.items():
        check_split(f"label rate {rate}", split, labels)

    x = embeddings.detach()
    classes, truth = labels.to(x.device).unique(return_inverse=True)  # sorted, -1 first if it is there
    truth = truth - int(classes[0] == -1)
    num_classes = int(truth.max()) + 1
    bound = math.sqrt(6 / (x.shape[1] + num_classes))
    start = torch.empty(repeats, x.shape[1], num_classes, dtype=x.dtype).uniform_(-bound, bound, generator=rng).to(x.device)
    fits: dict[str, np.ndarray] = {}
    valid: dict[str, float] = {}
    for rate, split in splits.items():
        train_part, valid_part, test_part = ((x[ids], truth[ids]) for ids in (part.to(x.device) for part in split))
        macro, micro = _fit(start, train_part, valid_part, learning_rate, weight_decay, steps)
        test, test_truth = test_part
        logits = _logits(test, *micro.at)
        fits[f"ma_f1@{rate}"] = f1(test_truth, _logits(test, *macro.at).argmax(2), num_classes)[0].numpy(force=True)
        fits[f"mi_f1@{rate}"] = f1(test_truth, logits.argmax(2), num_classes)[1].numpy(force=True)
        fits[f"auc@{rate}"] = _auc(test_truth, logits.softmax(2))
        valid |= {f"ma_f1@{rate}": float(macro.score.mean()), f"mi_f1@{rate}": float(micro.score.mean())}
    return LabelReport(*_summary(fits), fits, valid)


def cluster_probe(
    embeddings: Tensor,  # [N, d] float32 or float64
    labels: Tensor,  # [N] int64, -1 = unlabelled
    *,
    num_clusters: int | None = None,  # None: as many as there are classes
    repeats: int = 10,
    seed: int = 0,
) -> ClusterReport:
    """k-means on the labelled nodes (scikit-learn's, the best of ten starts each), with seeds ``seed`` to ``seed + repeats - 1``.

    Raises:
        ValueError: embeddings that are not finite or not a table of floats, labels that do not fit them or are of one class, no
            repeats, a number of clusters outside 1..labelled nodes.

    Source: jianxiangyu/MEOW@6a072d7; its scikit-learn 1.1.1 took ten starts by default.
    Departs: seeds are fixed; nodes without a label are left out (its data sets have none).
    """
    _check_embeddings(embeddings, labels)
    labelled = labels >= 0
    x, truth = embeddings.detach()[labelled.to(embeddings.device)], labels[labelled]
    k = len(truth.unique()) if num_clusters is None else num_clusters
    if not 1 <= k <= len(x):
        raise ValueError(f"num_clusters must lie between 1 and the number of labelled nodes, {len(x)}, got {k}")
    if repeats < 1:
        raise ValueError(f"repeats must be 1 or more, got {repeats}")
    found = [clustering(truth, k_means(x, k, seed=seed + repeat)) for repeat in range(repeats)]
    fits = {key: np.array([each[key] for each in found]) for key in found[0]}
    return ClusterReport(*_summary(fits), fits)


def k_means(
    embeddings: Tensor,  # [N, d]
    num_clusters: int,
    *,
    seed: int = 0,
) -> Tensor:  # [N] int64
    """scikit-learn's clusters, the best of ten starts. Raises ValueError for a number of clusters outside 1..N."""
    from sklearn.cluster import KMeans

    if not 1 <= num_clusters <= len(embeddings):
        raise ValueError(f"num_clusters must lie between 1 and the number of rows, {len(embeddings)}, got {num_clusters}")
    with one_thread():
        found = KMeans(num_clusters, n_init=10, random_state=seed).fit_predict(embeddings.numpy(force=True))
    return torch.from_numpy(found.astype(np.int64))


def one_thread() -> AbstractContextManager[object]:
    """scikit-learn's k-means adds what threads found in the order in which they end: with three or more, other bits at each call."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="openmp")


def clustering(
    truth: Tensor,  # [N] int64, -1 = unlabelled
    predicted: Tensor,  # [N] int64, any numbers
) -> dict[str, float]:
    """Accuracy, normalised mutual information (arithmetic mean), adjusted Rand index and macro-F1 of clusters: ``acc``, ``nmi``, ``ari``, ``f1``.

    Clusters are matched to classes one to one so that accuracy is highest. Nodes of a cluster that is matched to no class count as
    wrong; a class without a cluster has an F1 of 0. Macro-F1 is the mean over the classes in ``truth``. Nodes without a label are left
    out; published numbers on Citeseer count 15 such nodes as class 0.

    Raises:
        ValueError: tensors that are not int64 of one length, or no labelled node.

    Source: bdy9527/SDCN@da6bb00, whose numbers it gives where there are as many clusters as classes.
    Departs: that rewrites some predictions where a cluster is empty, and knows no other number of clusters.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    if truth.shape != predicted.shape or truth.ndim != 1 or {truth.dtype, predicted.dtype} != {torch.int64}:
        told = " and ".join(f"{each.dtype} of shape {tuple(each.shape)}" for each in (truth, predicted))
        raise ValueError(f"classes and clusters must be int64, one a node, got {told}")
    labelled = truth.cpu() >= 0
    if not bool(labelled.any()):
        raise ValueError("no node has a label to compare its cluster with")
    a, b = truth.cpu()[labelled].numpy(), predicted.cpu()[labelled].numpy()
    classes, rows = np.unique(a, return_inverse=True)
    clusters, columns = np.unique(b, return_inverse=True)
    table = np.zeros((len(classes), len(clusters)), dtype=np.int64)
    np.add.at(table, (rows, columns), 1)
    matched = linear_sum_assignment(table, maximize=True)
    hits = table[matched]
    f1_of_class = 2 * hits / (table.sum(1)[matched[0]] + table.sum(0)[matched[1]])
    return {
        "acc": float(hits.sum() / len(a)),
        "nmi": float(normalized_mutual_info_score(a, b)),
        "ari": float(adjusted_rand_score(a, b)),
        "f1": float(f1_of_class.sum() / len(classes)),
    }


def modularity(
    graph: Graph,
    clusters: Tensor,  # [N] int64, from 0
) -> float:
    """Share of edges inside clusters beyond what the degrees alone make expect: a criterion without labels, at most 1.

    Source: Newman, Modularity and community structure in networks, PNAS 2006. A graph without edges has 0.
    """
    if not graph.num_pairs:
        return 0.0
    first, second = clusters.to(graph.device)[graph.pairs]
    volumes = torch.zeros(int(clusters.max()) + 1, dtype=torch.float64, device=graph.device)
    volumes.index_add_(0, clusters.to(graph.device), graph.adj.degrees().double())
    return float((first == second).double().mean() - (volumes / volumes.sum()).square().sum())


def f1(
    truth: Tensor,  # [n] int64, classes 0..C - 1
    predicted: Tensor,  # [n, R] int64, of R classifiers
    num_classes: int,
) -> tuple[Tensor, Tensor]:  # [R] float64 each
    """Macro- and micro-F1 of each classifier. Macro: over the classes that stand in ``truth`` or are predicted by it."""
    repeats = predicted.shape[1]
    cells = predicted + num_classes * torch.arange(repeats, device=predicted.device)
    hits = cells[predicted == truth[:, None]].bincount(minlength=repeats * num_classes).view(repeats, -1).double()
    total = cells.flatten().bincount(minlength=repeats * num_classes).view(repeats, -1) + truth.bincount(minlength=num_classes)
    return (2 * hits / total.clamp(min=1)).sum(1) / (total > 0).sum(1), hits.sum(1) / len(truth)


class _Best:
    """The weights of each fit at its first step with the best score."""

    def __init__(self, weight: Tensor, bias: Tensor):
        self.score = torch.full((len(weight),), -1.0, dtype=torch.float64, device=weight.device)
        self.at = weight, bias

    def take(self, score: Tensor, weight: Tensor, bias: Tensor) -> None:
        better = score > self.score
        self.score = torch.where(better, score, self.score)
        self.at = torch.where(better[:, None, None], weight, self.at[0]), torch.where(better[:, None], bias, self.at[1])


@torch.no_grad()
def _fit(
    start: Tensor,  # [R, d, C]
    train: tuple[Tensor, Tensor],  # [n, d], [n]
    valid: tuple[Tensor, Tensor],  # [m, d], [m]
    learning_rate: float,
    weight_decay: float,
    steps: int,
) -> tuple[_Best, _Best]:
    """R regressions at once; those of the best macro-F1 and of the best micro-F1 on ``valid``."""
    num_classes = start.shape[2]
    weight, bias = start.clone(), start.new_zeros(len(start), num_classes)
    best = _Best(weight, bias), _Best(weight, bias)
    adam = torch.optim.Adam([weight, bias], lr=learning_rate, weight_decay=weight_decay)
    x, truth = train
    target = torch.nn.functional.one_hot(truth, num_classes)[:, None]
    for _ in range(steps):
        error = _logits(x, weight, bias).softmax(2) - target  # the gradient of a node's cross-entropy by its logits
        weight.grad = torch.einsum("nd,nrc->rdc", x, error) / len(x)
        bias.grad = error.mean(0)
        adam.step()
        for kept, score in zip(best, f1(valid[1], _logits(valid[0], weight, bias).argmax(2), num_classes), strict=True):
            kept.take(score, weight, bias)
    if not bool(weight.isfinite().all()):
        raise ValueError(f"the fits diverged; take a learning rate below {learning_rate}, or embeddings nearer to length 1")
    return best


def _logits(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """[n, d], [R, d, C], [R, C] -> [n, R, C]"""
    return torch.einsum("nd,rdc->nrc", x, weight) + bias


def _auc(truth: Tensor, scores: Tensor) -> np.ndarray:
    """[n], [n, R, C] -> [R]"""
    from sklearn.metrics import roc_auc_score

    present = truth.unique()
    wanted = (truth[:, None] == present).repeat(1, scores.shape[1])  # [n, R * classes present], as the scores' columns
    each = roc_auc_score(wanted.numpy(force=True), scores[:, :, present].flatten(1).numpy(force=True), average=None)
    return each.reshape(scores.shape[1], -1).mean(1)


def _summary(fits: Mapping[str, np.ndarray]) -> tuple[dict[str, float], dict[str, float]]:
    return {key: float(each.mean()) for key, each in fits.items()}, {key: float(each.std()) for key, each in fits.items()}


def _check_embeddings(embeddings: Tensor, labels: Tensor) -> None:
    if embeddings.ndim != 2 or embeddings.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"embeddings must be a float32 or float64 table [N, d], got {embeddings.dtype} of shape {tuple(embeddings.shape)}"
        )
    bad = ~embeddings.isfinite().all(1)
    if bool(bad.any()):
        raise ValueError(f"the embedding of node {int(bad.nonzero()[0])} is not finite; {int(bad.sum())} of {len(bad)} are not")
    if labels.dtype != torch.int64 or labels.shape != embeddings.shape[:1]:
        raise ValueError(
            f"labels must be int64 of shape {tuple(embeddings.shape[:1])}, one for each embedding, -1 where there is none, "
            f"got {labels.dtype} of shape {tuple(labels.shape)}"
        )
    if bool((labels < -1).any()):
        raise ValueError(f"labels must be -1 (unlabelled) or from 0, got {int(labels.min())}")
    if len(classes := labels[labels >= 0].unique()) < 2:
        raise ValueError(f"labels must name two classes or more, got {classes.tolist()}")


def check_split(name: str, split: Split, labels: Tensor) -> None:
    """Raises: ValueError for what :func:`label_probe` cannot probe with."""
    if len(split) != 3:
        raise ValueError(f"{name}: a split is train, valid and test ids, got {len(split)} parts")
    parts = dict(zip(("train", "valid", "test"), split, strict=True))
    seen = torch.zeros_like(labels)  # of each node, 1 + the number of the part it is in
    for number, (part, ids) in enumerate(parts.items()):
        if ids.dtype != torch.int64 or ids.ndim != 1 or not len(ids):
            raise ValueError(
                f"{name}: {part} must be int64 node ids [n], at least one, got {ids.dtype} of shape {tuple(ids.shape)}"
            )
        ids = ids.to(labels.device)
        outside = (ids < 0) | (ids >= len(labels))
        if bool(outside.any()):
            raise ValueError(f"{name}: {part} names node {int(ids[outside][0])}, but ids go from 0 to {len(labels) - 1}")
        unlabelled = labels[ids] < 0
        if bool(unlabelled.any()):
            raise ValueError(f"{name}: {part} names node {int(ids[unlabelled][0])}, which has no label; leave it out")
        twice = seen[ids] > 0
        if bool(twice.any()):
            node = int(ids[twice][0])
            raise ValueError(f"{name}: node {node} is in {list(parts)[int(seen[node]) - 1]} and in {part}; a node belongs to one")
        seen[ids] = number + 1
    if len(classes := labels[split[2].to(labels.device)].unique()) < 2:
        raise ValueError(f"{name}: test must have nodes of two classes or more for an AUC, got only class {int(classes[0])}")
