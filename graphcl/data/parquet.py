"""Parquet files and folders, read batch by batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from graphcl.data.columns import Where, choose, ids_of_values
from graphcl.data.encode import IdRows, bytes_of, ranges_of
from graphcl.data.formats import Columns, Filling

BATCH_ROWS = 1 << 16
BUFFER = 1 << 18  # bytes read ahead of each column


def read_parquet(path: Path, given: dict[str, str | None]) -> Columns:
    """A Parquet file, or a folder of them (with `key=value` partitions)."""
    import pyarrow as pa
    from pyarrow import dataset as arrow_dataset

    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    files = files_of(path)
    if not files:
        raise ValueError(f"{path}: a folder without .parquet files; name the file to read")

    def where(row: int) -> str:
        return f"{path}, row {row + 1}"

    try:
        source = arrow_dataset.dataset(
            files, format="parquet", partitioning="hive", partition_base_dir=str(path), exclude_invalid_files=False
        )
        chosen = choose(source.schema.names, given, str(path))
        num_rows = source.count_rows()
        if num_rows == 0:
            raise ValueError(f"{path}: the file has no rows")
        filling = Filling(num_rows, chosen)
        ids = {what: id_rows(source.schema.field(chosen[what]).type) for what in ("user", "item")}
        for fragment in source.get_fragments():
            for batch in batches(fragment, source, list(chosen.values())):
                add(batch, chosen, ids, filling, where)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"{path}: not a Parquet file that can be read ({reason})") from None
    return filling.finish(ids["user"], ids["item"], where, strip=False)


def files_of(path: Path) -> str | list[str]:
    """The file, or those of a folder that are named ``.parquet``: what else stands in it is somebody's notes."""
    if not path.is_dir():
        return str(path)
    inside = [file for file in sorted(path.rglob("*.parquet")) if file.is_file()]
    return [str(file) for file in inside if not any(part[0] in "._" for part in file.relative_to(path).parts)]


def batches(fragment: Any, source: Any, names: list[str]) -> Iterator[dict[str, Any]]:
    """Columns of one file of the dataset, some rows at a time, in the types of the dataset's schema. (A scan by the
    dataset itself would decode whole row groups.)"""
    import pyarrow as pa
    from pyarrow import dataset as arrow_dataset
    from pyarrow import parquet

    constants = arrow_dataset.get_partition_keys(fragment.partition_expression)
    with parquet.ParquetFile(fragment.path, filesystem=source.filesystem, buffer_size=BUFFER, pre_buffer=False) as file:
        stored = [name for name in names if name in file.schema_arrow.names and name not in constants]
        for batch in file.iter_batches(BATCH_ROWS, columns=stored):
            found = {}
            for name in names:
                kind = source.schema.field(name).type
                if name in stored:
                    column = batch.column(name)
                    if is_text(column.type) and not is_text(kind):
                        raise ValueError(
                            f"{fragment.path}: column {name!r} is text, but {kind} in the first file; make it one type"
                        )
                    found[name] = column if column.type == kind else column.cast(kind)
                else:
                    found[name] = pa.repeat(pa.scalar(constants.get(name), value_type(kind)), len(batch))
            yield found


def is_text(kind: Any) -> bool:
    import pyarrow as pa

    kind = value_type(kind)
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def value_type(kind: Any) -> Any:
    import pyarrow as pa

    return kind.value_type if pa.types.is_dictionary(kind) else kind


def id_rows(kind: Any) -> IdRows:
    """Whole numbers (also floats that are such) stay numbers; all else, text of digits too, is text."""
    import pyarrow as pa

    kind = value_type(kind)
    return IdRows(whole=pa.types.is_integer(kind) or pa.types.is_floating(kind))


def add(batch: dict[str, Any], chosen: dict[str, str], ids: dict[str, IdRows], filling: Filling, where: Where) -> None:
    def here(row: int) -> str:
        return where(filling.filled + row)

    rows = []
    for what in ("user", "item"):
        column = batch[chosen[what]]
        if column.null_count:  # before pandas turns whole numbers with gaps into floats
            row = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
            raise ValueError(f"{here(row)}: the {what} id is missing")
        rows.append(rows_of(column, ids[what], what, here))
    rating, time = (batch[chosen[what]].to_pandas() if what in chosen else None for what in ("rating", "time"))
    filling.add(rows[0], rows[1], rating, time, where)


def rows_of(column: Any, ids: IdRows, what: str, where: Where) -> np.ndarray:
    """int32 rows of an Arrow array without gaps."""
    import pyarrow as pa

    kind = value_type(column.type)
    if kind != column.type:
        column = column.cast(kind)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return ids.of_texts(*ranges_of(column.cast(pa.large_string())))
    if pa.types.is_signed_integer(kind):
        return ids.of_numbers(column.to_numpy().astype(np.int64, copy=False))
    block_rows, distinct = ids_of_values(column.to_pandas(), what, where)
    if distinct.dtype == object:
        return ids.of_texts(*bytes_of(distinct.tolist()))[block_rows]
    return ids.of_numbers(distinct)[block_rows]
