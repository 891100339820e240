"""Parquet files that carry the images themselves, as the Hugging Face hub stores image datasets.

Columns are found by the types that the schema's metadata states, then by name. Reading is by small batches: one row
group is never held whole.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from service.datasets.archives import Member, MemberDamagedError, MemberTooLargeError
from service.datasets.errors import BadManifest, CorruptArchive, OneClass
from service.datasets.layouts import clean_label
from service.datasets.limits import Meter
from service.datasets.names import Split, split_of_shard

SUFFIX = "parquet"
_IMAGE_COLUMNS = ("image", "img", "images", "picture", "bytes", "image_bytes")
_LABEL_COLUMNS = ("label", "labels", "class", "fine_label", "category", "target")
_BATCH_ROWS = 16
_PAGE_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ShardImage:
    """One row. `label` is None where the row has none; `problem` says why there are no bytes."""

    name: str
    split: Split
    label: str | None
    data: bytes
    problem: str = ""


@dataclass(frozen=True, slots=True)
class ShardSummary:
    rows: int
    classes: tuple[str, ...] | None  # as far as the schema names them


@dataclass(frozen=True, slots=True)
class _Schema:
    image: str
    in_struct: bool
    label: str
    names: tuple[str, ...] | None


def summarise(path: Path, /, *, min_classes: int = 2) -> ShardSummary:
    """From the footer alone."""
    with _opened(path, path.name) as file:
        schema = _schema(file, path.name)
        if schema.names is not None and len(schema.names) < min_classes:
            raise OneClass(f"The schema names {len(schema.names)} class", where=path.name)
        return ShardSummary(file.metadata.num_rows, schema.names)


def shard_images(member: Member, scratch: Path, meter: Meter, /) -> Iterator[ShardImage]:
    """The rows of one shard. A shard inside an archive is written to `scratch` first: Parquet is read from its end."""
    name = member.entry.path
    with ExitStack() as cleanup:
        path = member.file
        if path is None:
            path = scratch / "shard.parquet"
            cleanup.callback(path.unlink, missing_ok=True)
            try:
                with path.open("wb") as handle:
                    for chunk in member.chunks(max_bytes=meter.limits.max_unpacked_bytes):
                        handle.write(chunk)
            except (MemberDamagedError, MemberTooLargeError) as error:
                raise CorruptArchive(f"A Parquet file {error}", where=name) from error
        file = cleanup.enter_context(_opened(path, name))
        schema = _schema(file, name)
        yield from _rows(file, schema, name, meter)


def _rows(file: Any, schema: _Schema, name: str, meter: Meter, /) -> Iterator[ShardImage]:
    split = split_of_shard(name) or "train"
    wanted = [f"{schema.image}.bytes" if schema.in_struct else schema.image, schema.label]
    number = 0
    try:
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=wanted, use_threads=False):
            labels = batch.column(schema.label).to_pylist()
            for image, label in zip(batch.column(schema.image), labels, strict=True):
                at = f"{name}#{number}"
                number += 1
                meter.entry(at, 0)
                value = image.as_py()
                data = value.get("bytes") if isinstance(value, dict) else value
                size = len(data) if data is not None else 0
                meter.inflated(size, at)
                text = _label(label, schema, at)
                if data is None:
                    yield ShardImage(at, split, text, b"", "has no image bytes in its row")
                elif size > meter.limits.max_image_bytes:
                    yield ShardImage(at, split, text, b"", f"is larger than {meter.limits.max_image_bytes:,} bytes")
                else:
                    yield ShardImage(at, split, text, data)
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise CorruptArchive("A Parquet file is damaged", where=f"{name}#{number}") from error


def _opened(path: Path, name: str, /) -> Any:
    try:
        return pq.ParquetFile(path, buffer_size=_PAGE_BUFFER_BYTES, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise CorruptArchive("A Parquet file cannot be opened: it is cut short or damaged", where=name) from error


def _label(value: object, schema: _Schema, at: str, /) -> str | None:
    if value is None or (isinstance(value, int) and value < 0):  # the hub writes -1 where the label is withheld
        return None
    if schema.names is None:
        return clean_label(str(value))
    if not isinstance(value, int) or value >= len(schema.names):
        raise BadManifest(f"A row has the label {value!r}; the schema names {len(schema.names)} classes", where=at)
    return clean_label(schema.names[value])


def _schema(file: Any, name: str, /) -> _Schema:
    arrow = file.schema_arrow
    features = _features(arrow.metadata, name)
    stated_images = [key for key, value in features.items() if value.get("_type") == "Image"]
    stated_labels = [key for key, value in features.items() if value.get("_type") == "ClassLabel"]
    image = _chosen(stated_images or [f.name for f in arrow if _holds_bytes(f.type)], _IMAGE_COLUMNS, "image", name)
    plain = [f.name for f in arrow if f.name != image and _holds_a_label(f.type)]
    named = [column for column in plain if column.lower() in _LABEL_COLUMNS]
    label = _chosen(stated_labels or named, _LABEL_COLUMNS, "label", name)
    for column, fits in ((image, _holds_bytes), (label, _holds_a_label)):
        if arrow.names.count(column) != 1 or not fits(arrow.field(column).type):
            raise BadManifest(
                f"The column '{column}' is missing, stands there twice or has a type that is not read", where=name
            )
    names = features.get(label, {}).get("names") if label in stated_labels else None
    if names is not None and not (isinstance(names, list) and all(isinstance(n, str) for n in names)):
        raise BadManifest("The class names in the schema are no list of strings", where=name)
    if names is not None and not pa.types.is_integer(arrow.field(label).type):
        names = None
    in_struct = pa.types.is_struct(arrow.field(image).type)
    return _Schema(image, in_struct, label, None if names is None else tuple(names))


def _features(metadata: dict[bytes, bytes] | None, name: str, /) -> dict[str, dict[str, Any]]:
    raw = (metadata or {}).get(b"huggingface")
    if raw is None:
        return {}
    try:
        features = json.loads(raw)["info"]["features"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadManifest("The schema's 'huggingface' metadata cannot be read", where=name) from error
    if not isinstance(features, dict):
        raise BadManifest("The schema's 'huggingface' metadata cannot be read", where=name)
    return {key: value for key, value in features.items() if isinstance(value, dict)}


def _chosen(columns: list[str], preferred: tuple[str, ...], kind: str, name: str, /) -> str:
    for wanted in preferred:
        for column in columns:
            if column.lower() == wanted:
                return column
    if len(columns) == 1:
        return columns[0]
    if not columns:
        raise BadManifest(f"The Parquet file has no {kind} column", where=name)
    raise BadManifest(f"The Parquet file has several {kind} columns ({', '.join(columns[:5])})", where=name)


def _holds_bytes(kind: Any, /) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_bytes(kind.field(index).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _holds_a_label(kind: Any, /) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind))
