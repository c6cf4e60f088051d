"""Registered data sets: found by name, loaded, and checked against the counts that their `dataset.cfg` states."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import warnings
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from graphcl.data.config import NODE_FOLDERS, ROLES, SPLIT_COUNTS, DatasetConfig, read_config
from graphcl.data.describe import distinct
from graphcl.data.filter import filtered
from graphcl.data.nearest import nearest
from graphcl.data.read import read_interactions
from graphcl.data.source import expanded
from graphcl.data.split import Split, inside, over_one_vocabulary, split, split_files
from graphcl.interactions import Interactions, concat

GROUP_ORDER = ("general", "sequential", "hetero", "attributed")  # a bare name is looked for in this order


def config_root() -> Path:
    """The folder of the configurations: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "datasets", package.parent / "datasets"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"{package / 'datasets'}: the data set configurations are missing; reinstall graphcl")


def list_datasets() -> list[DatasetConfig]:
    """Every registered data set, by group and name."""
    return [read_config(path) for path in sorted(config_root().glob("*/*/dataset.cfg"))]


def find(name: str, group: str | None = None) -> DatasetConfig:
    """The configuration of a registered name, `gowalla` or `general/gowalla`; a bare name is looked for in `group` first.

    Raises: ValueError naming the nearest name there is.
    """
    paths = {f"{path.parts[-3]}/{path.parts[-2]}": path for path in config_root().glob("*/*/dataset.cfg")}
    for each in (group, *GROUP_ORDER):
        if f"{each}/{name}" in paths:
            return read_config(paths[f"{each}/{name}"])
    if name in paths:
        return read_config(paths[name])
    bare = [full.split("/")[1] for full in paths]
    hint = nearest(name, [*bare, *paths])
    shown = sorted(full if bare.count(short) > 1 else short for full, short in zip(paths, bare, strict=True))
    raise ValueError(f"unknown data set {name!r}{hint}; known: {', '.join(shown)}; or give a path to a file or folder")


def cache_root() -> Path:
    """Where downloads go: $GRAPHCL_CACHE, else ~/.cache/graphcl."""
    return Path(os.environ.get("GRAPHCL_CACHE") or Path.home() / ".cache" / "graphcl")


def search_path(config: DatasetConfig) -> list[Path]:
    """Folders that may hold its files: $GRAPHCL_DATA, the download cache, the wheel that ships it."""
    roots = [Path(os.environ["GRAPHCL_DATA"])] if os.environ.get("GRAPHCL_DATA") else []
    folders = [root / config.group / config.name for root in [*roots, cache_root()]]
    if config.kind == "hetero":  # one release's files may lie over another's
        folders = [folder / part for folder in folders for part in ("", *NODE_FOLDERS)]
    if config.wheel:
        package, _, inner = config.wheel.partition("/")
        spec = importlib.util.find_spec(package)  # finds without importing
        folders += [Path(place) / inner for place in (spec and spec.submodule_search_locations) or ()]
    return folders


def locate(config: DatasetConfig) -> dict[str, Path]:
    """Role -> file, each from the first folder that has it.

    Raises: FileNotFoundError saying which file goes where.
    """
    folders = [config.folder, *search_path(config)]
    found: dict[str, Path] = {}
    for role, accepted in config.files.items():
        places = (folder / file.name for folder in folders for file in accepted)
        path = next((path for path in places if path.is_file()), None)
        if path is not None:
            found[role] = path
        elif role not in config.optional:
            raise FileNotFoundError(absent(config, role))
    return found


def absent(config: DatasetConfig, role: str, folder: Path | None = None) -> str:
    """What to do about a file that is not there; ``folder``: the only place that was looked at."""
    names = " or ".join(file.name for file in config.files[role])
    root = "$GRAPHCL_DATA" if not os.environ.get("GRAPHCL_DATA") else os.environ["GRAPHCL_DATA"]
    usual = f"{root}/{config.full_name} or {cache_root() / config.group / config.name}"
    ways = [f"put it into {usual if folder is None else folder}"]
    if any(file.url for file in config.files[role]):
        ways.insert(0, f"run `graphcl data fetch {config.name}`")
    if config.hint:
        ways.append(config.hint)
    return f"{config.full_name}: its {role} file ({names}) is not here; {', or '.join(ways)}"


def load(
    source: str | Path,
    *,
    format: str | None = None,
    user_col: str | None = None,
    item_col: str | None = None,
    time_col: str | None = None,
    rating_col: str | None = None,
    min_rating: float | None = None,
    k_core: int | tuple[int, int] | None = None,
    rule: str | None = None,
    ratios: Sequence[float] | None = None,
    split_seed: int | None = None,
    cuts: Sequence[Any] | None = None,
    carve: float | None = None,
) -> Split:
    """A registered data set by name, or a log or a folder of split files by path, as a `Split`.

    A registered name goes before a file of that name in the working directory; `./gowalla` is the file. A path to a
    folder is one with a `dataset.cfg`, with files named train, test and perhaps valid, with a single log, or with
    Parquet parts. Options left None are those of the data set, else of `split` and `split_files`. `ratios`, `rule`,
    `cuts`, `min_rating` and `k_core` need a log; `carve` needs split files without a validation part.

    Raises: what `read_interactions` and `split` raise; ValueError for an unknown name, for options that do not fit, and
    where counts differ from those the data set states; FileNotFoundError saying what to put where.
    """
    reading = {"user_col": user_col, "item_col": item_col, "time_col": time_col, "rating_col": rating_col}
    reading = {key: value for key, value in {"format": format, **reading}.items() if value is not None}
    making: dict[str, Any] = {"min_rating": min_rating, "k_core": k_core, "rule": rule, "ratios": ratios}
    making |= {"split_seed": split_seed, "cuts": cuts, "carve": carve}
    making = {key: value for key, value in making.items() if value is not None}
    config = configured(source)
    if config is None:
        path = expanded(source)
        files = split_files_in(path) if path.is_dir() else {"log": path}
        stem = path.resolve().name.split(".")[0]
        return made_of(stem, read_parts(stem, files, reading), making)
    if config.kind != "general":
        reader = {"hetero": "nodes.load_nodes", "attributed": "attributed.load_attributed"}[config.kind]
        raise ValueError(
            f"{config.full_name} is {config.what}, but a log of interactions is needed here; graphcl.data.{reader}({config.name!r}) reads it"
        )
    if reading:
        raise ValueError(f"{config.full_name} is registered with its format; {', '.join(reading)} cannot be set for it")
    files = locate(config)
    check_sums(config, files)
    parts = read_parts(config.full_name, files, {"format": config.format, **config.columns})
    check_counts(config, {role: len(part) for role, part in parts.items()}, ROLES)
    own = dict(config.split)
    if making.get("rule") == "all" or "cuts" in making:
        own.pop("ratios", None)  # of another rule
    made = made_of(config.full_name, parts, {**own, **making})
    if not making:
        whole = concat(list(made.parts.values()))
        found = {"users": distinct(whole.users), "items": distinct(whole.items)}
        found |= {f"split_{name}": len(part) for name, part in made.parts.items()}
        check_counts(config, found, SPLIT_COUNTS)
    return replace(made, name=config.name, kind=config.group, citation=config.citation)


def full_name(kind: str, data: Any) -> str | None:
    """``kind/name`` of loaded data, by which recipes know it; None if it is not registered, for only what is has a citation."""
    return f"{kind}/{data.name}" if data.citation else None


def configured(source: str | Path, group: str | None = None) -> DatasetConfig | None:
    """The configuration that a name (looked for in `group` first) or a folder stands for; None for a path to plain data."""
    path = expanded(source)
    if (path / "dataset.cfg").is_file():
        return read_config(path / "dataset.cfg")
    if isinstance(source, Path) or source.startswith((".", "~", os.sep)):
        return None
    try:
        return find(source, group)
    except ValueError:
        if path.exists():
            return None
        if path.suffix:  # it looks like a file
            raise FileNotFoundError(f"{path}: no such file, and no registered data set") from None
        raise


def kind_of(source: str | Path) -> str:
    """Of the recipes that take a registered name or a path: general (a log), hetero or attributed.

    Raises: ValueError or FileNotFoundError where it is nothing.
    """
    config = configured(source)
    if config is not None:
        return config.kind
    path = expanded(source)
    if any((path / part / "labels.npy").is_file() or holds_relations(path / part) for part in ("", *NODE_FOLDERS)):
        return "hetero"
    archives = sorted(path.glob("*.npz")) if path.is_dir() else [path] if path.suffix == ".npz" else []
    attributed = len(archives) == 1 and holds_edges(archives[0])
    return "attributed" if attributed or any(path.glob("ind.*.graph")) else "general"


def holds_relations(folder: Path) -> bool:
    """Whether a folder has relations and meta-paths, such as pa.txt and pap.npz."""
    stems = [path.stem for path in folder.glob("[a-z][a-z][a-z]*.npz")]
    return any(stem == stem[::-1] for stem in stems) and any(folder.glob("[a-z][a-z].txt"))


def holds_edges(path: Path) -> bool:
    """Whether a ``.npz`` is an attributed graph, and not a matrix that SciPy saved."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "edges.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def split_files_in(folder: Path) -> dict[str, Path]:
    """Role -> file in a folder, by names such as train.txt, valid.csv.gz or ml.test.inter; or its single log.

    Raises: ValueError where several files could have a role.
    """
    spoken = {"train": "train", "training": "train", "test": "test", "testing": "test"}
    spoken |= dict.fromkeys(("valid", "validation", "val", "dev"), "valid")
    roles: dict[str, list[Path]] = {}
    others: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "_")) or not path.is_file() or path.suffix in (".md", ".cfg"):
            continue
        parts = path.name.lower().replace("-", ".").replace("_", ".").split(".")
        role = next((spoken[part] for part in parts if part in spoken), None)
        (roles.setdefault(role, []) if role else others).append(path)
    for role, paths in roles.items():
        if len(paths) > 1:
            raise ValueError(f"{folder}: {' and '.join(p.name for p in paths)} could each be the {role} file; keep one")
    if "train" in roles and "test" in roles:
        return {role: paths[0] for role, paths in roles.items()}
    if roles:
        raise ValueError(f"{folder}: has a {' and a '.join(roles)} file, but a split needs both train and test")
    logs = [path for path in others if path.suffix == ".inter"] or others
    if len(logs) == 1:
        return {"log": logs[0]}
    return {"log": folder}


def read_parts(name: str, files: dict[str, Path], reading: dict[str, Any]) -> dict[str, Interactions]:
    return {role: read_interactions(path, **reading, name=name) for role, path in files.items()}


def made_of(name: str, parts: dict[str, Interactions], making: dict[str, Any]) -> Split:
    """A split from one log or from given parts.

    Raises: ValueError for an option that does not fit.
    """
    if "log" in parts:
        if "carve" in making:
            raise ValueError(f"{name}: carve parts a given train file; for a log set the ratios")
        return split(
            filtered(parts["log"], making), **{key: value for key, value in making.items() if key not in ("min_rating", "k_core")}
        )
    wrong = [key for key in making if key not in ("split_seed", "carve")]
    if wrong:
        raise ValueError(f"{name}: comes already split, so {', '.join(wrong)} cannot be set")
    train, test = parts["train"], parts.get("test")
    valid, within = parts.get("valid"), parts.get("valid_inside_train")
    if valid is None and within is None:
        return split_files(train, test, **making, name=name)
    if making:
        raise ValueError(f"{name}: comes with a validation part, so {', '.join(making)} cannot be set")
    if valid is not None and is_inside(valid, train):
        valid, within = None, valid
    return split_files(train, test, valid, within, name=name)


def is_inside(valid: Interactions, train: Interactions) -> bool:
    """Whether every validation pair stands in train too, told before the two share a vocabulary."""
    shared_valid, shared_train = over_one_vocabulary([valid, train])
    assert shared_valid is not None
    assert shared_train is not None
    return bool(inside(shared_valid, shared_train).all())


def check_sums(config: DatasetConfig, files: dict[str, Path]) -> None:
    """Warn of a file that differs from the one the data set was registered with; its counts decide whether it will do."""
    for role, path in files.items():
        known = next((file.sha256 for file in config.files[role] if file.name == path.name), "")
        if known and hashlib.sha256(path.read_bytes()).hexdigest() != known:
            warnings.warn(f"{path}: differs from the registered file (sha256 {known[:12]}...)", stacklevel=3)


def check_counts(config: DatasetConfig, found: dict[str, int], which: Sequence[str]) -> None:
    """Raises: ValueError naming what was expected and what was found."""
    for what in which:
        expected = config.counts.get(what, found.get(what))
        if found.get(what) != expected:
            raise ValueError(
                f"{config.full_name}: expected {expected:,} {what}, found {found.get(what, 0):,}; the files are not those "
                "that were registered"
            )
