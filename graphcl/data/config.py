"""What a `dataset.cfg` says."""

from __future__ import annotations

import configparser
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphcl.data.nearest import nearest
from graphcl.data.read import FORMATS
from graphcl.data.split import RULES

# graphs of labelled nodes: `graphcl.data.nodes` reads every file of a heterogeneous one under its own name, `graphcl.data.attributed` one file
NODE_FORMATS = {"heco": "hetero", "attributed": "attributed"}
NODE_FOLDERS = ("meow", "heco")  # their files may lie in these; the latter's over the former's
ROLES = ("log", "train", "valid", "valid_inside_train", "test")
SPLIT_COUNTS = ("users", "items", "split_train", "split_valid", "split_test")  # of the split as it is loaded


@dataclass(frozen=True)
class DataFile:
    """One file of a data set, under one of the names that are accepted for its role."""

    name: str
    url: str = ""
    sha256: str = ""
    md5: str = ""


@dataclass(frozen=True, eq=False)
class DatasetConfig:
    """What `dataset.cfg` says."""

    name: str
    group: str
    title: str
    citation: str
    licence: str
    homepage: str
    source: str
    folder: Path  # where the dataset.cfg stands
    format: str | None = None
    columns: dict[str, str] = field(default_factory=dict)  # user_col, ... for tables
    files: dict[str, tuple[DataFile, ...]] = field(default_factory=dict)  # role -> accepted files, best first
    counts: dict[str, int] = field(default_factory=dict)
    split: dict[str, Any] = field(default_factory=dict)  # rule, ratios, split_seed, min_rating, k_core, carve
    metapaths: tuple[str, ...] = ()  # of a graph; the first letter is the target type
    optional: tuple[str, ...] = ()  # roles whose files may be absent
    wheel: str = ""  # package/folder that ships the files
    hint: str = ""  # how to come by files that have no url

    @property
    def full_name(self) -> str:
        return f"{self.group}/{self.name}"

    @property
    def kind(self) -> str:
        """Of the recipes that take it: general, hetero or attributed."""
        return NODE_FORMATS.get(self.format or "", "general")

    @property
    def what(self) -> str:
        return {"hetero": "a graph of labelled nodes", "attributed": "an attributed graph"}.get(
            self.kind, "a log of interactions"
        )


def read_config(path: Path) -> DatasetConfig:
    """Raises: ValueError naming the file and the section or key that is wrong."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"), source=str(path))
        about, files = dict(parser["dataset"]), parser["files"]
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None
    except KeyError as error:
        raise ValueError(f"{path}: section [{error.args[0]}] is missing") from None
    for key in ("name", "group"):
        if not about.get(key):
            raise ValueError(f"{path}: [dataset] {key} is missing")
    shape = about.pop("format", None)
    known = (*FORMATS, *NODE_FORMATS)
    if shape is not None and shape not in known:
        raise ValueError(f"{path}: unknown format {shape!r}{nearest(shape, known)}; known: {', '.join(known)}")
    nodes = shape in NODE_FORMATS
    accepted: dict[str, tuple[DataFile, ...]] = {}
    for role, names in files.items():
        if role not in ROLES and not nodes:
            raise ValueError(f"{path}: [files] {role} is no role{nearest(role, ROLES)}; roles: {', '.join(ROLES)}")
        accepted[role] = tuple(data_file(parser, name.strip()) for name in names.split(","))
    if not nodes and not {"log", "train"} & set(accepted):
        raise ValueError(f"{path}: [files] needs a log, or a train file")
    if shape == "attributed" and set(accepted) != {"graph"}:
        raise ValueError(f"{path}: an attributed graph needs [files] graph, and no other")
    if shape == "heco" and not ("labels" in accepted and about.get("metapaths")):
        raise ValueError(f"{path}: a graph of labelled nodes needs [files] labels and [dataset] metapaths")
    text = {key: " ".join(about.get(key, "").split()) for key in ("title", "citation", "licence", "homepage", "source")}
    return DatasetConfig(
        name=about["name"],
        group=about["group"],
        **text,
        folder=path.parent,
        format=shape,
        columns=dict(parser["columns"]) if parser.has_section("columns") else {},
        files=accepted,
        counts=dict(counts(parser, path, () if nodes else (*ROLES, *SPLIT_COUNTS))),
        split=dict(split_options(parser, path)),
        metapaths=words(about.get("metapaths", "")),
        optional=words(about.get("optional", "")),
        wheel=about.get("wheel", ""),
        hint=" ".join(about.get("hint", "").split()),
    )


def section(parser: configparser.ConfigParser, name: str) -> list[tuple[str, str]]:
    return list(parser[name].items()) if parser.has_section(name) else []


def words(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def counts(parser: configparser.ConfigParser, path: Path, known: tuple[str, ...]) -> Iterator[tuple[str, int]]:
    """Rows of each file by role; users, items and parts of the split as it is loaded. Of a graph (`known` is empty) nodes by type
    (`p`), edges by relation (`pa`) and classes; or nodes, edges, features, classes and unlabelled nodes."""
    for key, value in section(parser, "counts"):
        if known and key not in known:
            raise ValueError(f"{path}: [counts] {key} is unknown{nearest(key, known)}; known: {', '.join(known)}")
        yield key, number(path, "counts", key, value, int)


def data_file(parser: configparser.ConfigParser, name: str) -> DataFile:
    known = dict(section(parser, name))
    return DataFile(name, known.get("url", ""), known.get("sha256", "").lower(), known.get("md5", "").lower())


def number(path: Path, part: str, key: str, value: str, kind: type) -> Any:
    try:
        return kind(value.replace(",", ""))
    except ValueError:
        raise ValueError(f"{path}: [{part}] {key} must be a number, got {value!r}") from None


def split_options(parser: configparser.ConfigParser, path: Path) -> Iterator[tuple[str, Any]]:
    for key, value in section(parser, "split"):
        if key == "rule":
            if value not in RULES:
                raise ValueError(f"{path}: unknown split rule {value!r}{nearest(value, RULES)}")
            yield key, value
        elif key == "ratios":
            yield key, tuple(number(path, "split", key, part, float) for part in value.split(","))
        elif key in ("min_rating", "carve"):
            yield key, number(path, "split", key, value, float)
        elif key in ("split_seed", "k_core"):
            yield key, number(path, "split", key, value, int)
        else:
            known = ("rule", "ratios", "min_rating", "carve", "split_seed", "k_core")
            raise ValueError(f"{path}: [split] {key} is unknown{nearest(key, known)}; known: {', '.join(known)}")
