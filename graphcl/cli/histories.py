"""A table of histories, read as the log was that a run was trained on, as far as it is like it."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def read_histories(path: Path, config: dict[str, Any], given: dict[str, str]) -> Any:
    """A frame of user, item and perhaps rating, in order of time. Columns and format that are ``given`` go over those of the run."""
    import pandas as pd

    from graphcl.data.columns import MissingColumn, role
    from graphcl.data.read import read_interactions
    from graphcl.run import rating_threshold
    from graphcl.sequence import in_order

    trained = dict(config.get("columns", {}))
    if rating_threshold(config) is None:
        trained["rating_col"] = ""  # nothing is left out by it
    last = {"rating_col": ""} if trained.get("rating_col") == "" else {}
    told = config.get("options", {}).get("format")
    wanted = {trained[name] for name in ("user_col", "item_col") if trained.get(name)}

    def without(*names: str) -> dict[str, str]:
        return {name: column for name, column in trained.items() if name not in names}

    fields = _first_fields(path)
    roles = {role(field) for field in fields or ()}
    tries: list[dict[str, str]] = []
    if fields is None:  # the reader looks for columns before it reads any
        tries = [without(), without("time_col"), without("rating_col"), without("time_col", "rating_col")]
    elif wanted <= set(fields) if wanted else {"user", "item"} <= roles:
        tries = [without(*(name for name in ("time_col", "rating_col") if trained.get(name) and trained[name] not in fields))]
    elif told and not {"user", "item"} <= roles:  # no names that are known: it is what the log was
        tries = [{**last, "format": told}]
    failed: ValueError | None = None
    for remembered in [*tries, last]:
        try:
            log = read_interactions(path, **{**remembered, **given})  # type: ignore[arg-type]
            break
        except ValueError as error:
            failed = error
            if not isinstance(error, MissingColumn) and "format" not in remembered:  # the names are there: the table is wrong
                raise
    else:
        assert failed is not None
        raise failed
    log = log.take(in_order(log))
    frame = pd.DataFrame({"user": log.user_ids.ids[log.users], "item": log.item_ids.ids[log.items]})
    return frame if log.rating is None else frame.assign(rating=log.rating)


def _first_fields(path: Path) -> list[str] | None:
    """The fields of a text's first line; None of other files, of which their readers tell."""
    from graphcl.data.read import MAGIC
    from graphcl.data.sniff import TYPED, fields_of
    from graphcl.data.source import text_blocks
    from graphcl.data.survey import DELIMITERS

    if not path.is_file():
        return None
    with path.open("rb") as file:
        if file.read(4) in MAGIC:
            return None
    line = next(text_blocks(path), b"").lstrip().partition(b"\n")[0]
    delimiter = next((each for each in DELIMITERS if each in line), b" ").decode()
    fields = fields_of(line.decode(), delimiter, quoted=b'"' in line)
    return [field.rpartition(":")[0] if TYPED.fullmatch(field) else field for field in fields]
