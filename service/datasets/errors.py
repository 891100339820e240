"""Why a dataset is refused. Each leaf has a stable slug; its text says what is wrong, where, and what to do."""

from typing import ClassVar

from service.core.errors import Conflict, ServiceError


class DatasetRefused(ServiceError):
    """Base of every refusal. Nothing of a refused dataset stays in the blob store."""

    slug: ClassVar[str]
    remedy: ClassVar[str]

    def __init__(self, what: str, /, *, where: str = "") -> None:
        self.what = what
        self.where = where
        place = f" ('{_shortened(where)}')" if where else ""
        super().__init__(f"{what}{place}. {self.remedy}")

    @property
    def detail(self) -> str:
        return str(self)


def _shortened(name: str, /) -> str:
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    return printable if len(printable) <= 200 else f"{printable[:120]}…{printable[-79:]}"


class UnknownFormat(DatasetRefused):
    slug = "unknown-format"
    remedy = (
        "Send a zip, tar, tar.gz, tar.bz2 or tar.xz archive, a Parquet file, or name a folder. "
        "Of a CSV of texts, name the text column."
    )


class CorruptArchive(DatasetRefused):
    slug = "corrupt-archive"
    remedy = "Make the archive again and check that all of it was sent."


class EmptyArchive(DatasetRefused):
    slug = "empty-archive"
    remedy = "Put the images into it, one folder a class, and send it again."


class EncryptedArchive(DatasetRefused):
    slug = "encrypted-archive"
    remedy = "Make the archive again without a password."


class PathTraversal(DatasetRefused):
    slug = "path-traversal"
    remedy = "Names must be relative, use '/' and stay inside: make the archive again from within the dataset's folder."


class BadName(DatasetRefused):
    slug = "bad-name"
    remedy = "Rename the file: no control characters, and at most 1,024 characters from the archive's root."


class DuplicateName(DatasetRefused):
    slug = "duplicate-name"
    remedy = "Keep one file under each name and make the archive again."


class LinkInArchive(DatasetRefused):
    slug = "link-in-archive"
    remedy = "Replace links by the files they point to, for example with 'tar --dereference' or 'cp -rL'."


class SpecialFile(DatasetRefused):
    slug = "special-file"
    remedy = "Keep ordinary files only: no devices, pipes, sockets or sparse files."


class NestedArchive(DatasetRefused):
    slug = "nested-archive"
    remedy = "Unpack it and send one archive that holds the images themselves."


class TooCostly(DatasetRefused):
    """Reading it ended its process, or took more memory or time than it may."""

    slug = "too-costly"
    remedy = "Look for files that unpack to far more than they should. ZOOSCOUT_WORKER__INGEST_MEMORY_BYTES bounds it."


class CompressionBomb(DatasetRefused):
    slug = "compression-bomb"
    remedy = "Images hardly compress: send them as they are, or in a plain tar."


class ImageBomb(DatasetRefused):
    slug = "image-bomb"
    remedy = "Scale the image down or take it out."


class TooLarge(DatasetRefused):
    slug = "too-large"
    remedy = "Send fewer or smaller images, or ask the operator to raise the limit."


class TooManyEntries(DatasetRefused):
    slug = "too-many-entries"
    remedy = "Send fewer files, or ask the operator to raise the limit."


class TooManyClasses(DatasetRefused):
    slug = "too-many-classes"
    remedy = "Check that the label column holds classes, and no identifiers or measured values."


class NoImages(DatasetRefused):
    slug = "no-images"
    remedy = "JPEG, PNG, WebP, BMP, GIF and TIFF files are read, by their suffix."


class NoLabels(DatasetRefused):
    slug = "no-labels"
    remedy = "Put each class into a folder of its own, or add a CSV with the columns 'path' and 'label'."


class AmbiguousLayout(DatasetRefused):
    slug = "ambiguous-layout"
    remedy = "Let every top folder be a split (train, validation, test), or every top folder be a class."


class BadManifest(DatasetRefused):
    slug = "bad-manifest"
    remedy = (
        "A CSV needs the columns 'path' and 'label'; a Parquet file needs an image and a label column; "
        "a table of texts needs the columns that are named for it."
    )


class OneClass(DatasetRefused):
    slug = "one-class"
    remedy = "Models can be compared on two classes or more: add images of another class."


class NothingReadable(DatasetRefused):
    slug = "nothing-readable"
    remedy = "Send images that open in an image viewer."


class DatasetInUse(Conflict):
    """The dataset is the reference set, or a ranking that has not ended is computed against it."""


class NoReferenceSet(ServiceError):
    """No dataset is named as the reference set."""
