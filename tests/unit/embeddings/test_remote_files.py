"""Files at a URL, against a real S3 server: proved copies, a bounded cache, and errors that say what is wrong."""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import fsspec
import pytest

from service.core.settings import Settings, StoreSettings
from service.embeddings.errors import SegmentDamaged, StoreUnreachable
from service.embeddings.files import Digest, LocalFiles, RemoteFiles, open_files
from tests.helpers.s3 import S3Server
from tests.helpers.service import ROOT


def published(files: RemoteFiles, name: str, data: bytes) -> str:
    path = files.scratch(name)
    path.write_bytes(data)
    files.publish(name, path)
    return hashlib.sha256(data).hexdigest()


def cached(cache: Path) -> dict[str, int]:
    return {p.relative_to(cache).as_posix(): p.stat().st_size for p in cache.rglob("*") if p.is_file()}


def test_what_one_machine_publishes_another_reads(s3: S3Server, tmp_path: Path) -> None:
    url = s3.prefix()
    here, there = (RemoteFiles(url, cache=tmp_path / name, cache_bytes=10**6) for name in ("here", "there"))
    sha = published(here, "default/aa/one", b"some bytes")
    assert there.local("default/aa/one", sha).read_bytes() == b"some bytes"
    assert there.digest("default/aa/one") == Digest(10, sha)
    (file,) = there.listed("default")
    assert (file.name, file.size) == ("default/aa/one", 10)
    assert abs(file.modified - time.time()) < 60
    assert there.listed("other") == []
    there.delete("default/aa/one")
    there.delete("default/aa/one")
    assert here.listed("default") == []
    assert there.digest("default/aa/one") is None
    assert cached(tmp_path / "there") == {}
    with pytest.raises(FileNotFoundError):
        there.local("default/aa/one", sha)
    assert cached(tmp_path / "there") == {}


def test_the_copies_last_used_stay_and_no_more_bytes_than_allowed(s3: S3Server, tmp_path: Path) -> None:
    url = s3.prefix()
    writer = RemoteFiles(url, cache=tmp_path / "writer", cache_bytes=250)
    sha = {f"p/{n}": published(writer, f"p/{n}", bytes([n]) * 100) for n in range(5)}
    assert sum(cached(tmp_path / "writer").values()) <= 250
    reader = RemoteFiles(url, cache=tmp_path / "reader", cache_bytes=250)
    for n in (0, 1):
        reader.local(f"p/{n}", sha[f"p/{n}"])
        os.utime(tmp_path / "reader" / f"p/{n}", (n, n))
    reader.local("p/0", sha["p/0"])
    reader.local("p/2", sha["p/2"])
    assert set(cached(tmp_path / "reader")) == {"p/0", "p/2"}
    assert reader.local("p/1", sha["p/1"]).read_bytes() == b"\x01" * 100


def test_a_copy_that_is_not_what_was_registered_never_arrives(s3: S3Server, tmp_path: Path) -> None:
    url = s3.prefix()
    sha = published(RemoteFiles(url, cache=tmp_path / "a", cache_bytes=10**6), "p/one", b"right")
    fsspec.filesystem("s3").pipe_file(f"{url}/p/one", b"wrong")
    reader = RemoteFiles(url, cache=tmp_path / "b", cache_bytes=10**6)
    with pytest.raises(SegmentDamaged, match="not the file that was registered"):
        reader.local("p/one", sha)
    assert cached(tmp_path / "b") == {}


def test_verifying_forgets_a_copy_that_has_gone_bad(s3: S3Server, tmp_path: Path) -> None:
    files = RemoteFiles(s3.prefix(), cache=tmp_path, cache_bytes=10**6)
    sha = published(files, "p/one", b"right")
    (tmp_path / "p/one").write_bytes(b"wrong")
    assert files.digest("p/one") == Digest(5, sha)
    assert files.local("p/one", sha).read_bytes() == b"right"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "another"}, "signature"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "connect"),
    ],
)
def test_a_store_that_refuses_or_does_not_answer_says_so(
    s3: S3Server, tmp_path: Path, changes: dict[str, str], says: str
) -> None:
    """In a process of its own, since connections are kept."""
    code = (
        "import sys; from pathlib import Path; from service.embeddings.files import RemoteFiles\n"
        "from service.embeddings.errors import StoreUnreachable\n"
        "try: RemoteFiles(sys.argv[1], cache=Path(sys.argv[2]), cache_bytes=9).listed('default')\n"
        "except StoreUnreachable as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, s3.prefix(), str(tmp_path)],
        env=os.environ | changes,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert says in done.stdout.lower(), done.stderr
    assert s3.prefix().rpartition("/")[0] in done.stdout


def test_a_url_that_no_library_here_can_open_says_which_is_missing(tmp_path: Path) -> None:
    with pytest.raises(StoreUnreachable, match="gcsfs"):
        RemoteFiles("gs://bucket", cache=tmp_path, cache_bytes=1)
    with pytest.raises(StoreUnreachable, match="nonsense"):
        RemoteFiles("nonsense://bucket", cache=tmp_path, cache_bytes=1)


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_folder_is_mapped_where_it_lies(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "a shared folder"
    settings = Settings(data_dir=tmp_path / "data", store=StoreSettings(url=form.format(folder)))
    files = open_files(settings)
    assert isinstance(files, LocalFiles)
    assert files.root == folder
