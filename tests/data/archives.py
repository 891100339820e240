"""Archives of datasets, good and bad, made when asked for. `REFUSED` is the corpus of what must not be let in."""

import bz2
import gzip
import io
import os
import stat
import struct
import tarfile
import unicodedata
import warnings
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from service.datasets import errors
from service.datasets.limits import Limits
from tests.data.pictures import BOMBS, picture

Files = Iterable[tuple[str, bytes]]


def class_folders(prefix: str = "", *, classes: Iterable[str] = ("cat", "dog"), each: int = 3) -> dict[str, bytes]:
    """Every image differs from every other, whatever the prefix."""
    return {
        f"{prefix}{name}/{index}.png": picture(hash_of(f"{prefix}{name}{index}"))
        for name in classes
        for index in range(each)
    }


def hash_of(text: str) -> int:
    return int.from_bytes(text.encode()[-12:], "big")


GOOD = class_folders()


def zip_bytes(files: Files | dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED, stream: bool = False) -> bytes:
    out = io.BytesIO()
    target = _Unseekable(out) if stream else out
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(target, "w", method) as archive:
        for name, data in files.items() if isinstance(files, dict) else files:
            archive.writestr(name, data)
    return out.getvalue()


class _Unseekable(io.RawIOBase):
    """Makes zipfile write data descriptors behind the data instead of sizes before it."""

    def __init__(self, out: io.BytesIO) -> None:
        self._out = out

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        return self._out.write(data)


def zip_with_mode(name: str, mode: int, data: bytes = b"/etc/passwd") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, content in GOOD.items():
            archive.writestr(path, content)
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, data)
    return out.getvalue()


def patched(
    data: bytes, *, local: Callable[[bytearray, int], None], directory: Callable[[bytearray, int], None]
) -> bytes:
    """Change the fields of the last entry's two headers."""
    out = bytearray(data)
    local(out, out.rfind(b"PK\3\4"))
    directory(out, out.rfind(b"PK\1\2"))
    return bytes(out)


def encrypted_zip() -> bytes:
    def set_flag(at: int):
        return lambda out, start: out.__setitem__(start + at, out[start + at] | 1)

    return patched(zip_bytes(GOOD), local=set_flag(6), directory=set_flag(8))


def zip_with_declared_size(files: dict[str, bytes], size: int) -> bytes:
    """The last file claims to be of another size than it is."""
    return patched(
        zip_bytes(files),
        local=lambda out, start: struct.pack_into("<L", out, start + 22, size),
        directory=lambda out, start: struct.pack_into("<L", out, start + 24, size),
    )


def zip_with_raw_name(placeholder: bytes, raw: bytes) -> bytes:
    """zipfile will not write some names; they are put in afterwards, in the same number of bytes."""
    assert len(placeholder) == len(raw)
    return zip_bytes({**GOOD, placeholder.decode(): picture(9)}).replace(placeholder, raw)


def overlapping_zip() -> bytes:
    """Many entries of the directory share one file's data."""
    big = os.urandom(5000)
    data = bytearray(zip_bytes([("a/0.png", big), ("b/0.png", picture(1))], method=zipfile.ZIP_STORED))
    end = data.rfind(b"PK\5\6")
    start = struct.unpack_from("<L", data, end + 16)[0]
    first = bytes(data[start : start + 46 + len("a/0.png")])
    copies = b"".join(first.replace(b"a/0.png", f"a/{n}.png".encode()) for n in range(1, 10))
    tail = bytearray(data[end:])
    entries = 11
    struct.pack_into("<HHL", tail, 8, entries, entries, end - start + len(copies))
    return bytes(data[:end]) + copies + bytes(tail)


def zip_announcing(entries: int) -> bytes:
    """A zip64 end record that announces any number of entries."""
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, entries, entries, 100, 0)
    body = b"PK\3\4" + bytes(96)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(body), 1)
    return body + end64 + locator + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 100, 0, 0)


def tar_bytes(
    files: Files | dict[str, bytes], *, extra: Iterable[tarfile.TarInfo] = (), form: int = tarfile.PAX_FORMAT
) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, errors="surrogateescape") as archive:
        for name, data in files.items() if isinstance(files, dict) else files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in extra:
            archive.addfile(info)
    return out.getvalue()


def tar_entry(kind: bytes, name: str = "cat/x.png", **fields) -> bytes:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in fields.items():
        setattr(info, key, value)
    return tar_bytes(GOOD, extra=[info])


def tar_with_header_claiming(size: int) -> bytes:
    """A pax header that says it is longer than any memory."""
    info = tarfile.TarInfo("pax")
    info.type = tarfile.XHDTYPE
    info.size = size
    return tar_bytes(GOOD)[:-10240] + info.tobuf() + bytes(10240)


def gnu_sparse_tar() -> bytes:
    info = tarfile.TarInfo("cat/sparse.png")
    info.type = tarfile.GNUTYPE_SPARSE
    buffer = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    buffer[386:398] = b"00000000000\0"
    buffer[398:410] = b"00000000000\0"
    buffer[483:495] = b"77777777777\0"
    buffer[148:156] = b" " * 8
    buffer[148:156] = f"{sum(buffer):06o}\0 ".encode()
    return (
        tar_bytes(GOOD).rstrip(b"\0") + bytes(-len(tar_bytes(GOOD).rstrip(b"\0")) % 512) + bytes(buffer) + bytes(10240)
    )


def folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def folder_with_link(root: Path) -> Path:
    folder(root, GOOD)
    (root / "cat/link.png").symlink_to("/etc/passwd")
    return root


def folder_with_fifo(root: Path) -> Path:
    folder(root, GOOD)
    os.mkfifo(root / "cat/pipe.png")
    return root


@dataclass(frozen=True)
class Refused:
    make: bytes | Callable[[], bytes] | Callable[[Path], Path]
    error: type[errors.DatasetRefused]
    where: str = ""  # must stand in the error's text
    limits: Limits = field(default_factory=Limits)
    decoded: bool = False  # only the worker can find it

    def at(self, directory: Path) -> Path:
        target = directory / "upload"
        if isinstance(self.make, bytes):
            target.write_bytes(self.make)
            return target
        try:
            made = self.make(target)
        except TypeError:
            made = self.make()
        if isinstance(made, Path):
            return made
        target.write_bytes(made)
        return target


def _zip(name: str, data: bytes = b"") -> bytes:
    return zip_bytes({**GOOD, name: data or picture(5)})


_LOW = Limits(ratio_floor_bytes=1 << 20)
_FLAT = bytes(8 << 20)
_NFC, _NFD = (unicodedata.normalize(form, "cat/é.png") for form in ("NFC", "NFD"))

REFUSED: dict[str, Refused] = {
    # names that lead outside
    "zip: dot dot": Refused(_zip("../evil.png"), errors.PathTraversal, "../evil.png"),
    "zip: dot dot inside": Refused(_zip("cat/../../evil.png"), errors.PathTraversal),
    "zip: dot dot that stays inside": Refused(_zip("cat/../dog/x.png"), errors.PathTraversal),
    "zip: absolute": Refused(_zip("/etc/evil.png"), errors.PathTraversal),
    "zip: drive": Refused(_zip("C:/evil.png"), errors.PathTraversal),
    "zip: drive without slash": Refused(_zip("c:evil.png"), errors.PathTraversal),
    "zip: backslash": Refused(_zip("cat\\..\\evil.png"), errors.PathTraversal),
    "zip: share": Refused(_zip("//server/evil.png"), errors.PathTraversal),
    "zip: traversal among litter": Refused(_zip("__MACOSX/../../evil"), errors.PathTraversal),
    "zip: directory outside": Refused(_zip("../evil/"), errors.PathTraversal),
    "zip: NUL in a name": Refused(zip_with_raw_name(b"cat/x.png@.txt", b"cat/x.png\0.txt"), errors.BadName),
    "zip: control character": Refused(_zip("cat/\x1b[2J.png"), errors.BadName),
    "zip: very long name": Refused(_zip(f"cat/{'x' * 3000}.png"), errors.BadName, "3,008"),
    "tar: dot dot": Refused(tar_bytes({**GOOD, "../evil.png": b"x"}), errors.PathTraversal),
    "tar: absolute": Refused(tar_bytes({**GOOD, "/evil.png": b"x"}), errors.PathTraversal),
    "tar: pax name outside": Refused(tar_bytes({**GOOD, f"../{'é' * 200}.png": b"x"}), errors.PathTraversal),
    # what is no ordinary file
    "zip: symlink": Refused(zip_with_mode("cat/link.png", stat.S_IFLNK | 0o777), errors.LinkInArchive, "cat/link.png"),
    "zip: fifo": Refused(zip_with_mode("cat/pipe.png", stat.S_IFIFO | 0o644), errors.SpecialFile),
    "zip: device": Refused(zip_with_mode("cat/null.png", stat.S_IFCHR | 0o644), errors.SpecialFile),
    "tar: symlink": Refused(tar_entry(tarfile.SYMTYPE, linkname="/etc/passwd"), errors.LinkInArchive),
    "tar: hard link": Refused(tar_entry(tarfile.LNKTYPE, linkname="cat/0.png"), errors.LinkInArchive),
    "tar: fifo": Refused(tar_entry(tarfile.FIFOTYPE), errors.SpecialFile),
    "tar: character device": Refused(tar_entry(tarfile.CHRTYPE), errors.SpecialFile),
    "tar: block device": Refused(tar_entry(tarfile.BLKTYPE), errors.SpecialFile),
    "tar: sparse": Refused(gnu_sparse_tar, errors.SpecialFile),
    "folder: symlink": Refused(folder_with_link, errors.LinkInArchive, "cat/link.png"),
    "folder: fifo": Refused(folder_with_fifo, errors.SpecialFile, "cat/pipe.png"),
    # too much
    "zip: bomb": Refused(_zip("cat/flat.png", _FLAT), errors.CompressionBomb, limits=_LOW),
    "zip: declares too much": Refused(
        zip_with_declared_size(GOOD, 0xFFFF_FFF0), errors.CompressionBomb, limits=Limits(max_ratio=1000)
    ),
    "zip: unpacks to too much": Refused(zip_bytes(GOOD), errors.TooLarge, limits=Limits(max_unpacked_bytes=1000)),
    "zip: overlapping files": Refused(overlapping_zip, errors.CompressionBomb, "overlap"),
    "zip: announces too many entries": Refused(zip_announcing(10**9), errors.TooManyEntries, "1,000,000,000"),
    "zip: too many entries": Refused(zip_bytes(GOOD), errors.TooManyEntries, limits=Limits(max_entries=5)),
    "zip: too large": Refused(zip_bytes(GOOD), errors.TooLarge, limits=Limits(max_upload_bytes=100)),
    "zip: too many classes": Refused(zip_bytes(GOOD), errors.TooManyClasses, limits=Limits(max_classes=1)),
    "tar.gz: bomb": Refused(
        lambda: gzip.compress(tar_bytes({**GOOD, "cat/x.png": _FLAT})), errors.CompressionBomb, limits=_LOW
    ),
    "tar.bz2: bomb": Refused(
        lambda: bz2.compress(tar_bytes({**GOOD, "cat/x.png": _FLAT})), errors.CompressionBomb, limits=_LOW
    ),
    "tar.gz: unpacks to too much": Refused(
        gzip.compress(tar_bytes(GOOD)), errors.TooLarge, limits=Limits(max_unpacked_bytes=1000)
    ),
    "tar.gz: bomb in what is passed over": Refused(
        lambda: gzip.compress(tar_bytes({**GOOD, "notes.txt": _FLAT})), errors.CompressionBomb, limits=_LOW
    ),
    "tar: header larger than memory": Refused(tar_with_header_claiming(1 << 40), errors.CorruptArchive),
    "tar: too many entries": Refused(tar_bytes(GOOD), errors.TooManyEntries, limits=Limits(max_entries=5)),
    "folder: too many entries": Refused(
        lambda root: folder(root, GOOD), errors.TooManyEntries, limits=Limits(max_entries=5)
    ),
    "png of 50,000 x 50,000": Refused(
        _zip("cat/bomb.png", BOMBS["png"]), errors.ImageBomb, "cat/bomb.png", decoded=True
    ),
    "gif of 65,000 x 65,000": Refused(
        _zip("cat/bomb.gif", BOMBS["gif"]), errors.ImageBomb, "cat/bomb.gif", decoded=True
    ),
    # archives within archives
    "zip: nested zip": Refused(_zip("more.zip", zip_bytes(GOOD)), errors.NestedArchive, "more.zip"),
    "zip: nested deep in a class": Refused(_zip("cat/more.TAR.GZ"), errors.NestedArchive),
    "zip: only a zip, as a quine is": Refused(lambda: zip_bytes({"r/r.zip": zip_bytes(GOOD)}), errors.NestedArchive),
    "tar: nested 7z": Refused(tar_bytes({**GOOD, "more.7z": b"x"}), errors.NestedArchive),
    # names that clash
    "zip: duplicate name": Refused(zip_bytes([*GOOD.items(), ("cat/0.png", picture(7))]), errors.DuplicateName),
    "zip: duplicate after './'": Refused(_zip("./cat/0.png"), errors.DuplicateName),
    "zip: duplicate after NFC": Refused(zip_bytes({**GOOD, _NFC: b"x", _NFD: b"y"}), errors.DuplicateName),
    "tar: duplicate name": Refused(tar_bytes([*GOOD.items(), ("cat/0.png", picture(7))]), errors.DuplicateName),
    # not what it should be
    "no bytes": Refused(b"", errors.EmptyArchive),
    "empty zip": Refused(zip_bytes({}), errors.EmptyArchive),
    "empty tar": Refused(tar_bytes({}), errors.EmptyArchive),
    "empty folder": Refused(lambda root: folder(root / "", {}) if root.mkdir() else root, errors.EmptyArchive),
    "zip of litter": Refused(zip_bytes({"__MACOSX/._x.png": b"x", ".DS_Store": b"x"}), errors.EmptyArchive),
    "zip of folders": Refused(zip_bytes({"cat/": b"", "dog/": b""}), errors.EmptyArchive),
    "noise": Refused(b"\x07noise that is no archive at all" * 40, errors.UnknownFormat),
    "one image": Refused(picture(1), errors.UnknownFormat, "single image"),
    "7z": Refused(b"7z\xbc\xaf\x27\x1c" + bytes(600), errors.UnknownFormat, "7z"),
    "web page": Refused(b"<!DOCTYPE html>" + b" " * 600, errors.UnknownFormat, "web page"),
    "gzip of no tar": Refused(gzip.compress(b"hello" * 400), errors.UnknownFormat),
    "zip by bzip2": Refused(zip_bytes(GOOD, method=zipfile.ZIP_BZIP2), errors.UnknownFormat, "method 12"),
    "zip by lzma": Refused(zip_bytes(GOOD, method=zipfile.ZIP_LZMA), errors.UnknownFormat, "method 14"),
    "encrypted zip": Refused(encrypted_zip, errors.EncryptedArchive, "dog/2.png"),
    # cut short or damaged
    "zip: cut short": Refused(zip_bytes(GOOD)[:-30], errors.CorruptArchive),
    "zip: first half": Refused(zip_bytes(GOOD)[:1500], errors.CorruptArchive),
    "zip: directory outside the file": Refused(zip_bytes(GOOD)[:4] + zip_bytes(GOOD)[-200:], errors.CorruptArchive),
    "tar: cut short in a file": Refused(tar_bytes(GOOD)[:3000], errors.CorruptArchive),
    "tar: no end mark": Refused(tar_bytes(GOOD).rstrip(b"\0").ljust(6 * 1024, b"\0"), errors.CorruptArchive),
    "tar: damaged header": Refused(
        tar_bytes(GOOD)[:2048] + b"\xff" * 300 + tar_bytes(GOOD)[2348:], errors.CorruptArchive
    ),
    "tar.gz: cut short": Refused(gzip.compress(tar_bytes(GOOD))[:-500], errors.CorruptArchive),
    "tar.gz: header only": Refused(gzip.compress(tar_bytes(GOOD))[:12], errors.CorruptArchive),
    "parquet: header only": Refused(b"PAR1" + bytes(100), errors.CorruptArchive),
    # nothing to rank on
    "no images": Refused(zip_bytes({"cat/a.txt": b"x", "dog/b.txt": b"y"}), errors.NoImages, "txt"),
    "only heic": Refused(zip_bytes({"cat/a.heic": b"x", "dog/b.heic": b"y"}), errors.NoImages, "heic"),
    "no folders": Refused(zip_bytes({f"{n}.png": picture(n) for n in range(4)}), errors.NoLabels),
    "splits without classes": Refused(
        zip_bytes({"train/1.png": picture(1), "test/2.png": picture(2)}), errors.NoLabels
    ),
    "a split beside a class": Refused(
        zip_bytes({**class_folders("train/"), **class_folders("misc/")}), errors.AmbiguousLayout, "misc"
    ),
    "one class": Refused(zip_bytes(class_folders(classes=["cat"])), errors.OneClass, "cat"),
    "one class in two splits": Refused(
        zip_bytes(class_folders("train/", classes=["cat"]) | class_folders("test/", classes=["cat"])), errors.OneClass
    ),
    "nothing readable": Refused(
        zip_bytes({"cat/1.png": b"text", "dog/1.png": b""}), errors.NothingReadable, "cat/1.png", decoded=True
    ),
    "one class readable": Refused(
        zip_bytes({**class_folders(classes=["cat"]), "dog/1.png": b""}), errors.OneClass, "cat", decoded=True
    ),
    "every image in two classes": Refused(
        zip_bytes({"cat/1.png": picture(1), "dog/1.png": picture(1)}), errors.NothingReadable, decoded=True
    ),
}
