"""Datasets of texts: one CSV, TSV or Parquet file with a column of texts and a column of labels.

A text is stored as its bytes in UTF-8, under their sha256, as an image is.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

from service.blobs.store import BlobStore
from service.datasets.errors import TooManyClasses
from service.datasets.findings import Findings, Origin
from service.datasets.images import ImageFacts
from service.datasets.ingest import IngestResult
from service.datasets.layouts import Place, clean_label
from service.datasets.limits import Limits, Meter
from service.datasets.names import split_named
from service.datasets.text_tables import TextColumns, damaged, kind_of, opened_parquet, rows_of

MAX_TEXT_BYTES = 1 << 20
_REPORT_EVERY = 200


def ingest_texts(
    path: Path,
    columns: TextColumns,
    /,
    *,
    store: BlobStore,
    project: str,
    limits: Limits | None = None,
    progress: Callable[[int, int | None], None] = lambda done, total: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> IngestResult:
    """Reads the rows, stores their texts and says what they are.

    Raises a leaf of DatasetRefused, or Cancelled; the store then holds nothing more than before.
    """
    limits = limits or Limits()
    kind = kind_of(path, limits)
    meter = Meter(limits, archive_bytes=path.stat().st_size, cancelled=cancelled)
    findings = Findings()
    with store.staging(project) as staging:
        try:
            total = int(opened_parquet(path).metadata.num_rows) if kind == "parquet" else None
            number = 0
            for number, row in enumerate(rows_of(path, kind, columns), start=1):
                name = f"row {number}"
                data = (row.text or "").encode("utf-8", "replace")
                meter.entry(name, 0)
                meter.inflated(len(data), name)
                split = "train" if row.split is None else split_named(row.split.strip())
                label = clean_label(str(row.label)) if row.label not in (None, "") else None
                if label is None:
                    findings.unlabelled(name)
                elif not data.strip():
                    findings.problem(name, "is an empty text")
                elif len(data) > MAX_TEXT_BYTES:
                    findings.problem(name, f"is longer than {MAX_TEXT_BYTES:,} bytes")
                elif split is None:
                    findings.problem(name, f"names no split: '{row.split}'")
                else:
                    staging.put(data)
                    facts = ImageFacts(len(row.text or ""), 1, "text", "UTF-8", animated=False)
                    findings.image(name, (Place(label, split),), hashlib.sha256(data).digest(), facts)
                if number % _REPORT_EVERY == 0:
                    meter.check_cancelled()
                    progress(number, total)
        except (ValueError, OSError) as error:
            raise damaged(error) from error
        meter.check_cancelled()
        note = f"Texts are those of the column '{columns.text}', labels those of '{columns.label}'."
        manifest, report = findings.conclude(Origin(kind, "texts", (), (), 0, (note,)))
        if len(manifest.classes) > limits.max_classes:
            raise TooManyClasses(f"It has {len(manifest.classes):,} classes; the limit is {limits.max_classes:,}")
        staging.publish({row.content_hash.hex() for row in manifest.rows()})
        progress(number, total)
    return IngestResult(manifest, report)
