"""A log of interactions with what is known of its users and items, as a graph of several types."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from graphcl.data.atomic import read_atomic
from graphcl.data.nearest import nearest
from graphcl.data.source import expanded
from graphcl.hetero import HeteroGraph
from graphcl.interactions import Interactions, Vocabulary

ENDS = {"user", "item"}


class Facts(NamedTuple):
    """Users or items, each with a value of the type ``type``."""

    end: str  # user or item
    type: str
    rows: np.ndarray  # [E] int64
    values: np.ndarray  # [E] str


def knowledge_graph(
    interactions: Interactions,
    *,
    kg: str | Path | None = None,
    link: str | Path | None = None,
    items: str | Path | None = None,
    users: str | Path | None = None,
    columns: Sequence[str] | Mapping[str, str] | None = None,
    target: str = "item",
) -> HeteroGraph:
    """Users, items and one type for each attribute and each relation name, from RecBole's atomic files.

    Rows of the types user and item are those of the vocabularies; pairs are those of ``interactions``, so give the training part.
    ``items`` (``.item``) and ``users`` (``.user``): each token or token_seq column is a type of its name, and its distinct values, or
    words, are the nodes; a name that stands in both files is one type. ``columns`` are the ones to take, by default all;
    ``{"class": "genre"}`` renames. ``kg`` and ``link``: a ``HeteroGraph`` has one relation between two types, so relation names
    become types. A triple joins the item at one of its ends to the entity at the other, a node of the type that is called like the
    relation: ``item-film.film.genre-item``. Of a triple between two items each is joined to the other's entity.

    Users and items that the log does not have, and triples without an item of the log, are counted in a warning and left out.

    Raises:
        FileNotFoundError: no such file.
        ValueError: naming file and line of what is wrong; only one of ``kg`` and ``link``; an unknown column or one of numbers; a type
            that would be called user or item.
    """
    if (kg is None) != (link is None):
        raise ValueError("kg and link go together: link says which entities are items")
    facts: list[Facts] = []
    offered: dict[str, str] = {}
    for end, path, ids in (("item", items, interactions.item_ids), ("user", users, interactions.user_ids)):
        if path is not None:
            facts += attributes(expanded(path), end, ids, columns, offered)
    for name in columns or ():
        if name not in offered:
            raise ValueError(f"no column {name!r}{nearest(name, offered)}; the columns are: {', '.join(offered) or 'none'}")
        if not offered[name].startswith("token"):
            raise ValueError(f"column {name!r} is {offered[name]}; only token and token_seq columns become types")
    if kg is not None and link is not None:
        facts += triples(expanded(kg), expanded(link), interactions.item_ids)
    counts = {"user": interactions.num_users, "item": interactions.num_items}
    relations = {("user", "item"): interactions.matrix}
    for name in dict.fromkeys(each.type for each in facts):
        if name in ENDS:
            raise ValueError(f"there is a type {name} already; give the column another name, columns={{{name!r}: ...}}")
        of_type = [each for each in facts if each.type == name]
        nodes, distinct = pd.factorize(np.concatenate([each.values for each in of_type]))
        counts[name] = len(distinct)
        bounds = np.cumsum([len(each.rows) for each in of_type])[:-1]
        pieces = list(zip(of_type, np.split(nodes, bounds), strict=True))
        for end in dict.fromkeys(each.end for each in of_type):
            rows = np.concatenate([each.rows for each, _ in pieces if each.end == end])
            there = np.concatenate([part for each, part in pieces if each.end == end])
            shape = (counts[end], counts[name])
            relations[end, name] = sparse.csr_matrix((np.ones(len(rows), dtype=np.int32), (rows, there)), shape=shape)
    return HeteroGraph(counts, relations, target)


def attributes(
    path: Path, end: str, ids: Vocabulary, columns: Sequence[str] | Mapping[str, str] | None, offered: dict[str, str]
) -> list[Facts]:
    """Of each chosen column of an .item or .user file. Adds its columns to ``offered``, with their types."""
    key = f"{end}_id"
    frame, types = read_atomic(path, [key])
    offered |= {name: kind for name, kind in types.items() if name != key}
    rows = known_rows(path, end, frame[key], ids)
    frame, rows = frame[rows >= 0], rows[rows >= 0]
    found = []
    for name, kind in types.items():
        if name == key or not kind.startswith("token") or (columns is not None and name not in columns):
            continue
        values = frame[name].str.split() if kind == "token_seq" else frame[name].map(lambda value: [value] if value else [])
        lengths = values.map(len).to_numpy()
        flat = np.array([word for words in values for word in words], dtype=object)
        found.append(Facts(end, columns[name] if isinstance(columns, Mapping) else name, np.repeat(rows, lengths), flat))
    return found


def triples(kg: Path, link: Path, ids: Vocabulary) -> list[Facts]:
    """Items and the entities at the other ends of their triples, by relation name."""
    links, _ = read_atomic(link, ["item_id", "entity_id"])
    links = pd.DataFrame({"entity": links["entity_id"], "row": known_rows(link, "item", links["item_id"], ids)})
    links = links[links["row"] >= 0]
    table, _ = read_atomic(kg, ["head_id", "relation_id", "tail_id"])
    outside = int((~table["head_id"].isin(links["entity"]) & ~table["tail_id"].isin(links["entity"])).sum())
    if outside:
        warnings.warn(f"{kg}: {outside:,} of {len(table):,} triples have no item of the log and are left out", stacklevel=3)
    joined = [
        table.merge(links, left_on=f"{here}_id", right_on="entity").rename(columns={f"{there}_id": "other"})
        for here, there in (("head", "tail"), ("tail", "head"))
    ]
    both = pd.concat([part[["relation_id", "row", "other"]] for part in joined])
    return [
        Facts("item", str(name), part["row"].to_numpy(), part["other"].to_numpy(dtype=object))
        for name, part in both.groupby("relation_id", sort=True)
    ]


def known_rows(path: Path, end: str, column: pd.Series, ids: Vocabulary) -> np.ndarray:  # [n] int64
    """Rows of the vocabulary, -1 where it has none, which is warned of."""
    rows = ids.rows(column.to_numpy(dtype=object))
    strange = int((rows < 0).sum())
    if strange == len(rows):
        raise ValueError(f"{path}: none of its {end}s is in the log; are the ids of another data set?")
    if strange:
        warnings.warn(f"{path}: {strange:,} of {len(rows):,} {end}s are not in the log and are left out", stacklevel=4)
    return rows
