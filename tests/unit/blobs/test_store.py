import hashlib
import os
import threading
import time

import pytest

from service.blobs.store import Blob, BlobStore

DATA = b"some bytes"
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def store(tmp_path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def files(store: BlobStore) -> list[str]:
    return sorted(str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file())


def age(store: BlobStore, sha256: str, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(store.path("p", sha256), (then, then))


def test_a_blob_is_named_by_its_content_within_its_project(store):
    assert store.put_stream("p", [DATA[:3], b"", DATA[3:]]) == Blob(SHA, len(DATA))
    assert files(store) == [f"p/{SHA[:2]}/{SHA}"]
    with store.open("p", SHA) as handle:
        assert handle.read() == DATA
    assert store.exists("p", SHA)
    assert not store.exists("q", SHA)
    assert list(store.iter_hashes("p")) == [SHA]
    assert list(store.iter_hashes("q")) == []


def test_storing_twice_writes_once(store, tmp_path):
    store.put_stream("p", [DATA])
    inode = store.path("p", SHA).stat().st_ino
    (tmp_path / "file").write_bytes(DATA)
    assert store.put_file("p", tmp_path / "file") == Blob(SHA, len(DATA))
    assert store.path("p", SHA).stat().st_ino == inode
    assert len(files(store)) == 1


def test_an_empty_blob(store):
    assert store.put_stream("p", []).size == 0
    assert len(files(store)) == 1


def test_a_stream_that_breaks_leaves_nothing(store):
    def broken():
        yield DATA
        raise ConnectionError

    with pytest.raises(ConnectionError):
        store.put_stream("p", broken())
    assert files(store) == []


def test_a_blob_that_was_cut_by_a_crash_is_written_anew(store):
    store.put_stream("p", [DATA])
    store.path("p", SHA).write_bytes(b"")
    store.put_stream("p", [DATA])
    assert store.path("p", SHA).read_bytes() == DATA


def test_delete_says_whether_there_was_one(store):
    store.put_stream("p", [DATA])
    assert store.delete("p", SHA)
    assert not store.delete("p", SHA)
    with pytest.raises(FileNotFoundError):
        store.open("p", SHA)


@pytest.mark.parametrize("project", ["", "..", "a/b", "/abs", ".hidden", "_tmp", "a\\b", "x" * 65, "p\n"])
def test_a_project_cannot_name_another_folder(store, project):
    with pytest.raises(ValueError, match="project"):
        store.put_stream(project, [DATA])


@pytest.mark.parametrize("sha256", ["", "ab", "../" + "a" * 61, SHA.upper(), SHA + "\n"])
def test_a_hash_cannot_name_another_file(store, sha256):
    with pytest.raises(ValueError, match="hexadecimal"):
        store.path("p", sha256)


def test_collect_takes_only_what_nobody_keeps_and_nobody_touched_lately(store):
    kept, young, old, renewed = (store.put_stream("p", [bytes([n])]).sha256 for n in range(4))
    for sha256 in (kept, old, renewed):
        age(store, sha256, 1000)
    store.put_stream("p", [bytes([3])])
    assert store.collect("p", {kept}, older_than_seconds=500) == 1
    assert set(store.iter_hashes("p")) == {kept, young, renewed}
    assert not store.exists("p", old)


def test_collect_takes_temporary_files_that_a_crash_left(store):
    staging = store.staging("p")
    staging.__enter__()  # a process that is killed never leaves
    staging.put(DATA)
    (store.root / "p" / "_tmp" / "upload").write_bytes(DATA)
    assert store.collect("p", set(), older_than_seconds=500) == 0
    assert len(files(store)) == 2
    for path in (store.root / "p" / "_tmp").iterdir():
        os.utime(path, (1, 1))
    store.collect("p", set(), older_than_seconds=500)
    assert files(store) == []


def test_staged_blobs_appear_together_or_not_at_all(store):
    with store.staging("p") as staging:
        staging.put(DATA)
        staging.put(b"more")
        assert list(store.iter_hashes("p")) == []
    assert files(store) == []
    with store.staging("p") as staging:
        staging.put(DATA)
        staging.put(DATA)
        unwanted = staging.put(b"more").sha256
        staging.publish({SHA})
    assert list(store.iter_hashes("p")) == [SHA]
    assert not store.exists("p", unwanted)
    assert len(files(store)) == 1


def test_a_writer_that_gives_up_takes_nothing_from_another(store):
    with store.staging("p") as first:
        first.put(DATA)
        with store.staging("p") as second:
            second.put(DATA)
            second.publish()
    assert store.path("p", SHA).read_bytes() == DATA


def test_many_threads_store_the_same_blobs(store):
    errors = []

    def work() -> None:
        try:
            for n in range(40):
                store.put_stream("p", [bytes([n]) * 10])
                store.collect("p", set(), older_than_seconds=500)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(files(store)) == 40
    for name in store.iter_hashes("p"):
        assert hashlib.sha256(store.path("p", name).read_bytes()).hexdigest() == name
