"""What a split holds, and whether anything leaks from its future into its past; what a labelled graph holds, and whether its ids
tell the labels."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from graphcl.data.split import Split, inside
from graphcl.interactions import Interactions, concat

if TYPE_CHECKING:
    from graphcl.data.attributed import AttributedData
    from graphcl.data.nodes import NodeData

IN_ORDER = -5.0  # standard deviations below the runs that labels in random order make


def describe(split: Split) -> dict[str, Any]:
    """Counts and a leakage audit, ready for JSON.

    `users` and `items` are those with a row in any part. `repeats` are rows beyond the first of their pair within one
    part. `cold` are users and items with rows in a part but none in train. `leakage` counts shared pairs and, where
    there is a time, train rows that are later than test: than the earliest test row of all, and than the user's own
    first. Any split by ratio has the former; the latter is 0 for a temporal one.
    """
    whole = concat(list(split.parts.values()))
    pairs = whole.matrix.nnz
    users, items = distinct(whole.users), distinct(whole.items)
    return {
        "name": split.name,
        "kind": split.kind,
        "rule": split.rule,
        "split_seed": split.split_seed,
        "citation": split.citation,
        "users": users,
        "items": items,
        "rows": len(whole),
        "pairs": pairs,
        "density": pairs / (users * items),
        "time": time_span(whole.time),
        "ratings": None if whole.rating is None else [float(whole.rating.min()), float(whole.rating.max())],
        "parts": {name: describe_part(part, split.train) for name, part in split.parts.items()},
        "users_without_test": None if split.test is None else users - distinct(split.test.users),
        "leakage": leakage(split),
    }


def distinct(rows: np.ndarray) -> int:
    return int(np.count_nonzero(np.bincount(rows)))


def describe_part(part: Interactions, train: Interactions) -> dict[str, Any]:
    def cold(rows: np.ndarray, known: np.ndarray) -> int:
        return distinct(rows[~np.isin(rows, known, kind="table")])

    return {
        "rows": len(part),
        "pairs": part.matrix.nnz,
        "repeats": part.num_repeats,
        "users": distinct(part.users),
        "items": distinct(part.items),
        "cold_users": cold(part.users, train.users),
        "cold_items": cold(part.items, train.items),
        "time": time_span(part.time),
    }


def time_span(time: np.ndarray | None) -> list[str | float] | None:
    """First and last, as ISO 8601 in UTC where they can be read as seconds since 1970, else as the numbers they are."""
    if time is None:
        return None
    ends = [float(time.min()), float(time.max())]
    try:
        # Below about 1971 the numbers are more likely years or counters than dates.
        if min(ends) > 3e7:
            return [datetime.fromtimestamp(end, UTC).isoformat() for end in ends]
    except (OverflowError, ValueError, OSError):
        pass
    return list(ends)


def leakage(split: Split) -> dict[str, int | None]:
    train, valid, test = split.train, split.valid, split.test

    def common(rows: Interactions | None, of: Interactions | None) -> int:
        """Distinct pairs in both."""
        if rows is None or of is None:
            return 0
        return rows.take(inside(rows, of)).matrix.nnz

    found: dict[str, int | None] = {
        "pairs_in_train_and_test": common(test, train),
        "pairs_in_train_and_valid": common(valid, train),
        "pairs_in_valid_and_test": common(test, valid),
        "train_rows_after_first_test": None,
        "train_rows_after_own_first_test": None,
    }
    if test is not None and test.time is not None and train.time is not None:
        first = np.full(train.num_users, np.inf)
        np.minimum.at(first, test.users, test.time)
        found["train_rows_after_first_test"] = int((train.time > test.time.min()).sum())
        found["train_rows_after_own_first_test"] = int((train.time > first[train.users]).sum())
    return found


def describe_nodes(data: NodeData) -> dict[str, Any]:
    """Counts of nodes, relations, meta-paths and labels, ready for JSON.

    `pairs` are distinct pairs of ends that a meta-path joins, self pairs among them; `instances` its paths. `runs` of equal labels along
    the ids tell whether their order follows the classes: `follow_ids` is true where they are fewer than chance explains, and
    then whatever breaks ties by id, or batches without shuffling, leaks labels.
    """
    graph = data.graph
    return {
        "name": data.name,
        "citation": data.citation,
        "target": graph.target,
        "nodes": {
            name: {"count": count, "features": graph.x[name].shape[1] if name in graph.x else None}
            for name, count in graph.counts.items()
        },
        "relations": {f"{a}-{b}": pattern.nnz for (a, b), pattern in graph.relations.items()},
        "metapaths": {path: {"pairs": graph.pairs(path), "instances": graph.instances(path)} for path in data.metapaths},
        **describe_labels(data),
    }


def describe_attributed(data: AttributedData) -> dict[str, Any]:
    """Counts of nodes, edges, features and labels, ready for JSON.

    `isolated` are nodes without an edge, `homophily` is the share of edges between nodes of one class, among those whose ends both have
    one (None where no edge has). `runs` and `follow_ids` as of `describe_nodes`.
    """
    from scipy.sparse.csgraph import connected_components

    graph, degrees = data.graph, data.graph.adj.degrees()
    ends = data.labels[graph.pairs]
    told = ends[:, (ends >= 0).all(0)]
    return {
        "name": data.name,
        "citation": data.citation,
        "nodes": graph.num_nodes,
        "edges": graph.num_pairs,
        "mean_degree": float(degrees.double().mean()),
        "isolated": int((degrees == 0).sum()),
        "components": int(connected_components(graph.adj.to_scipy(), directed=False)[0]),
        "homophily": float((told[0] == told[1]).double().mean()) if told.shape[1] else None,
        "features": {"columns": data.x.shape[1], "entries": int(data.x.count_nonzero())},
        "clusters": data.num_clusters,
        **describe_labels(data),
    }


def describe_labels(data: NodeData | AttributedData) -> dict[str, Any]:
    labels = data.labels.numpy()
    known = labels[labels >= 0]
    runs = int(np.count_nonzero(np.diff(known))) + 1
    mean, deviation = runs_at_random(np.bincount(known)) if len(known) else (0.0, 0.0)
    return {
        "labels": {
            "classes": dict(zip(map(str, data.classes or range(data.num_classes)), np.bincount(known).tolist(), strict=True)),
            "unknown": len(labels) - len(known),
            "runs": runs,
            "runs_at_random": mean,
            "follow_ids": runs < mean + IN_ORDER * deviation,
        },
        "splits": {str(rate): {part: len(ids) for part, ids in split._asdict().items()} for rate, split in data.splits.items()},
    }


def runs_at_random(sizes: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the number of runs of equal symbols in a random order of `sizes` of each.

    Source: Barton and David, Multiple runs, Biometrika 1957.
    """
    n, squares, cubes = (float((sizes.astype(np.float64) ** power).sum()) for power in (1, 2, 3))
    variance = (squares * (squares + n * (n + 1)) - 2 * n * cubes - n**3) / (n * n * max(n - 1, 1))
    return (n * (n + 1) - squares) / n, max(variance, 0.0) ** 0.5
