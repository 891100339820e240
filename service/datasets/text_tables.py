"""A table of texts: its columns, and its rows. Light to load, for the API looks at the header of an upload."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from service.datasets.errors import BadManifest, EmptyArchive, TooLarge, UnknownFormat
from service.datasets.limits import Limits

LABEL_COLUMN = "label"
SPLIT_COLUMNS = ("split", "subset", "set", "partition")
_DELIMITERS = ",;\t"
_BLOCK_BYTES = 16 << 20  # a row must fit into one
_BATCH_ROWS = 1024


@dataclass(frozen=True, slots=True)
class TextColumns:
    """The names of the two columns."""

    text: str
    label: str = LABEL_COLUMN

    @classmethod
    def asked(cls, text: str | None, label: str | None, /) -> "TextColumns | None":
        """None where no column of texts is named: the dataset is one of images."""
        return None if text is None else cls(text, label or LABEL_COLUMN)

    def to_json(self) -> dict[str, str]:
        return {"text": self.text, "label": self.label}


class TextRow(NamedTuple):
    text: str | None
    label: object
    split: str | None


def admit_texts(path: Path, columns: TextColumns, limits: Limits, /) -> int | None:
    """Whether it can be a dataset of texts, by its header; the number of rows where the file says it.

    Raises:
        DatasetRefused: It is no table with these columns.
    """
    kind = kind_of(path, limits)
    try:
        names = opened_parquet(path).schema_arrow.names if kind == "parquet" else _header(path)
        _chosen(names, columns)
        return int(opened_parquet(path).metadata.num_rows) if kind == "parquet" else None
    except (ValueError, OSError) as error:  # pyarrow's errors are ValueErrors and OSErrors
        raise damaged(error) from error


def damaged(error: Exception, /) -> BadManifest:
    said = next(iter(str(error).splitlines()), type(error).__name__)[:300]
    return BadManifest(f"The table cannot be read as UTF-8 rows of equal columns: {said}")


def kind_of(path: Path, limits: Limits, /) -> str:
    if path.is_dir():
        raise UnknownFormat("Texts come as one CSV, TSV or Parquet file, not as a folder")
    size = path.stat().st_size
    if size == 0:
        raise EmptyArchive("The file has no bytes")
    if size > limits.max_upload_bytes:
        raise TooLarge(f"The file has {size:,} bytes; the limit is {limits.max_upload_bytes:,}")
    with path.open("rb") as file:
        first = file.read(4)
    if first == b"PAR1":
        return "parquet"
    if first.startswith((b"PK", b"\x1f\x8b", b"BZh", b"\xfd7z")):
        raise UnknownFormat("Texts come as one CSV, TSV or Parquet file, not in an archive")
    return "csv"


def opened_parquet(path: Path, /) -> Any:
    import pyarrow.parquet as pq  # takes longer to load than the API to start

    return pq.ParquetFile(path)


def rows_of(path: Path, kind: str, columns: TextColumns, /) -> Iterator[TextRow]:
    import pyarrow as pa

    if kind == "parquet":
        file = opened_parquet(path)
        wanted = _chosen(file.schema_arrow.names, columns)
        field = file.schema_arrow.field(columns.text)
        if not (pa.types.is_string(field.type) or pa.types.is_large_string(field.type)):
            raise BadManifest(f"The column '{columns.text}' holds {field.type} and no texts")
        batches = file.iter_batches(batch_size=_BATCH_ROWS, columns=wanted, use_threads=False)
        named = _class_names(file.schema_arrow, columns.label)
    else:
        wanted = _chosen(_header(path), columns)
        batches, named = _csv_batches(path, wanted), None
    for batch in batches:
        values = [batch.column(name).to_pylist() for name in wanted]
        for found in zip(*values, strict=True):
            label = found[1]
            if isinstance(label, int) and (label < 0 or (named is not None and label >= len(named))):
                label = None  # the hub writes -1 where the label is withheld
            elif named is not None and isinstance(label, int):
                label = named[label]
            yield TextRow(found[0], label, found[2] if len(wanted) > 2 else None)


def _class_names(schema: Any, column: str, /) -> list[str] | None:
    """What the Hugging Face hub's metadata calls the numbers of a column."""
    import json

    raw = (schema.metadata or {}).get(b"huggingface")
    try:
        names = json.loads(raw)["info"]["features"][column]["names"] if raw else None
    except (ValueError, KeyError, TypeError):
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _csv_batches(path: Path, wanted: list[str], /) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import csv

    reader = csv.open_csv(
        path,
        read_options=csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
        parse_options=csv.ParseOptions(delimiter=_delimiter(path), newlines_in_values=True),
        convert_options=csv.ConvertOptions(
            include_columns=wanted, column_types=dict.fromkeys(wanted, pa.string()), strings_can_be_null=False
        ),
    )
    with reader:
        yield from reader


def _first_line(path: Path, /) -> str:
    with path.open("r", encoding="utf-8-sig", newline="") as file:
        return file.readline(_BLOCK_BYTES)


def _delimiter(path: Path, /) -> str:
    line = _first_line(path)
    return max(_DELIMITERS, key=line.count)


def _header(path: Path, /) -> list[str]:
    import csv

    return next(csv.reader([_first_line(path)], delimiter=_delimiter(path)), [])


def _chosen(names: list[str], columns: TextColumns, /) -> list[str]:
    """The columns of texts, of labels and, where there is one, of splits."""
    for column in (columns.text, columns.label):
        if names.count(column) != 1:
            said = ", ".join(f"'{name}'" for name in names[:10]) or "none"
            raise BadManifest(f"It has no single column '{column}': its columns are {said}")
    if columns.text == columns.label:
        raise BadManifest("Texts and labels cannot be the same column")
    split = [name for name in names if name.lower() in SPLIT_COLUMNS and name not in (columns.text, columns.label)]
    return [columns.text, columns.label, *split[:1]]
