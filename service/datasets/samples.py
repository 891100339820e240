"""A few images of each class, to look at."""

from dataclasses import dataclass
from pathlib import Path

ROWS_READ = 200_000  # of a manifest: rows lie by content hash, so that the first of a class are any of it


@dataclass(frozen=True, slots=True)
class Sample:
    hash: str
    path: str


@dataclass(frozen=True, slots=True)
class ClassSample:
    name: str
    images: tuple[Sample, ...]


def thumbnail_path(root: Path, project: str, content_hash: str, /) -> Path:
    """Where the small copy of an image lies, if there is one."""
    return root / project / content_hash[:2] / f"{content_hash}.jpg"


def samples(manifest: Path, /, *, each: int, only: str | None = None, classes: int | None = None) -> list[ClassSample]:
    """The first images of every class, of the first classes, or of one class alone."""
    import json

    import pyarrow.parquet as pq  # takes longer to load than the API to start

    with pq.ParquetFile(manifest) as file:
        header = json.loads(file.schema_arrow.metadata[b"zooscout.manifest"])
        names: list[str] = header["classes"]
        wanted = [n for n, name in enumerate(names) if only is None or name == only][:classes]
        found: dict[int, dict[str, Sample]] = {label: {} for label in wanted}
        read = 0
        for batch in file.iter_batches(batch_size=8192, columns=["content_hash", "label", "path"]):
            columns = (batch[name].to_pylist() for name in ("content_hash", "label", "path"))
            for content_hash, label, path in zip(*columns, strict=True):
                if label in found and len(found[label]) < each:
                    found[label].setdefault(content_hash.hex(), Sample(content_hash.hex(), path))
            read += batch.num_rows
            if read >= ROWS_READ or all(len(images) == each for images in found.values()):
                break
    return [ClassSample(names[label], tuple(images.values())) for label, images in found.items()]
