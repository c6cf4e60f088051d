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
    tries = [
        {name: column for name, column in trained.items() if name not in left_out}
        for left_out in ((), ("time_col",), ("rating_col",), ("time_col", "rating_col"))
    ]
    fields = _first_fields(path)
    roles = {role(field) for field in fields or ()}
    wanted = {trained[name] for name in ("user_col", "item_col") if trained.get(name)}
    if fields is not None and not (wanted <= set(fields) if wanted else {"user", "item"} <= roles):
        # The table has not the run's names. It has well-known ones, or none: then it is what the log was, if that had to be told.
        told = config.get("options", {}).get("format")
        tries = [{**last, "format": told}] if told and not {"user", "item"} <= roles else []
    failed: ValueError | None = None
    for remembered in [*tries, last]:
        try:
            log = read_interactions(path, **{**remembered, **given})  # type: ignore[arg-type]
            break
        except MissingColumn as error:
            failed = error
        except ValueError as error:
            failed = error
            if "format" not in remembered:  # the names are there: it is the table that is wrong
                raise
    else:
        assert failed is not None
        raise failed
    log = log.take(in_order(log))
    frame = pd.DataFrame({"user": log.user_ids.ids[log.users], "item": log.item_ids.ids[log.items]})
    return frame if log.rating is None else frame.assign(rating=log.rating)


def _first_fields(path: Path) -> list[str] | None:
    """The fields of a text's first line; None of other files, of which their readers tell."""
    from graphcl.data.sniff import TYPED
    from graphcl.data.source import text_blocks

    if not path.is_file():
        return None
    with path.open("rb") as file:
        if file.read(4) in (b"PAR1", b"PK\x03\x04"):
            return None
    line = next(text_blocks(path), b"").lstrip().partition(b"\n")[0].decode()
    delimiter = next((each for each in "\t,;|" if each in line), None)
    fields = [field.strip(' "\r') for field in line.split(delimiter)]
    return [field.rpartition(":")[0] if TYPED.fullmatch(field) else field for field in fields]
