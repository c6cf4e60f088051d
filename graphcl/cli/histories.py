"""A table of histories, read as the log was that a run was trained on, as far as it is like it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any


def read_histories(path: Path, config: dict[str, Any], given: dict[str, str]) -> Any:
    """A frame of user, item and perhaps rating, in order of time. Columns and format that are ``given`` go over those of the run."""
    import pandas as pd

    from graphcl.data.columns import MissingColumn
    from graphcl.data.read import read_interactions
    from graphcl.run import rating_threshold
    from graphcl.sequence import in_order

    trained = dict(config.get("columns", {}))
    if rating_threshold(config) is None:
        trained["rating_col"] = ""  # nothing is left out by it
    tries = [
        {name: column for name, column in trained.items() if name not in left_out}
        for left_out in ((), ("time_col",), ("rating_col",), ("time_col", "rating_col"))
    ]
    # A table without the run's names has its own, or none; then it may have to be told what the log was.
    if not _has_names(path, [trained[name] for name in ("user_col", "item_col") if trained.get(name)]):
        tries = []
    formats = [{"format": config["options"]["format"]}] if config.get("options", {}).get("format") else []
    last = {"rating_col": ""} if trained.get("rating_col") == "" else {}
    failed: ValueError | None = None
    for remembered in [*tries, last, *({**last, **each} for each in formats)]:
        try:
            log = read_interactions(path, **{**remembered, **given})  # type: ignore[arg-type]
            break
        except MissingColumn as error:
            failed = error
        except ValueError as error:
            failed = error
            if remembered in tries:  # the names are there: it is the table that is wrong
                raise
    else:
        assert failed is not None
        raise failed
    log = log.take(in_order(log))
    frame = pd.DataFrame({"user": log.user_ids.ids[log.users], "item": log.item_ids.ids[log.items]})
    return frame if log.rating is None else frame.assign(rating=log.rating)


def _has_names(path: Path, names: list[str]) -> bool:
    """Whether columns are named in the first line of a text; of other files their readers tell."""
    from graphcl.data.source import text_blocks

    if not path.is_file():
        return True
    with path.open("rb") as file:
        if file.read(4) in (b"PAR1", b"PK\x03\x04"):
            return True
    line = next(text_blocks(path), b"").lstrip().partition(b"\n")[0].decode()
    fields = [field.strip(' "\r') for field in re.split(r"[\t,;| ]", line)]
    return all(name in fields or (" " in name and name in line) for name in names)
