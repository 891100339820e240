"""A folder as an archive that can be uploaded."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

FIXED_TIME = (1980, 1, 1, 0, 0, 0)


@contextmanager
def packed(path: Path, /) -> Iterator[Path]:
    """The path itself, or a zip of the folder: the same bytes whenever its files are the same, so that the service
    knows it again."""
    if not path.is_dir():
        yield path
        return
    with TemporaryDirectory(prefix="zooscout-") as folder:
        target = Path(folder) / "dataset.zip"
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for file in sorted(found for found in path.rglob("*") if found.is_file()):
                entry = zipfile.ZipInfo(file.relative_to(path).as_posix(), FIXED_TIME)
                entry.file_size = file.stat().st_size
                with file.open("rb") as source, archive.open(entry, "w") as stored:
                    while chunk := source.read(1 << 20):
                        stored.write(chunk)
        yield target
