"""Reads and uploads of a running service, against what is the least they can take: `make bench-api`.

Reads: the service and a bare FastAPI application that returns the same bytes, each a process of its own, on a database
of 10,000 models, 1,000 datasets and 20 estimators; requests go to the two in turns. Uploads: many clients at once,
against as many threads that write and hash the same bytes. Exit code 1 where a bound is missed.
"""

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Response

from benchmarks.seeding import Size, arguments, ident, seeded, size_of

TIMES_BARE = 3.0
TIMES_DISK = 1.5
RSS_BYTES = 300 * 10**6
CLIENTS = 4
SECONDS = 2.0
ROUNDS = 3
BODIES = "ZOOSCOUT_BENCH_BODIES"


def bare() -> FastAPI:
    """The same bytes from a FastAPI application that does nothing else."""
    app = FastAPI()
    bodies = [path.read_bytes() for path in sorted(Path(os.environ[BODIES]).iterdir())]

    @app.get("/{number}")
    def read(number: int) -> Response:
        return Response(bodies[number], media_type="application/json")

    return app


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


@contextmanager
def process(words: list[str], port: int, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ZOOSCOUT_")}
    child = subprocess.Popen([sys.executable, "-m", *words], env=kept | environment)
    try:
        for _ in range(300):
            if child.poll() is not None:
                raise SystemExit(f"{' '.join(words)} ended with {child.returncode}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield child
    finally:
        child.terminate()
        child.wait(30)


class Connection:
    """One kept-alive connection and no more parsing than is needed, so that the client is not what is measured."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 24)

    async def get(self, path: str) -> tuple[int, bytes]:
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        return int(head[9:12]), await self._reader.readexactly(length)

    def close(self) -> None:
        self._writer.close()


@dataclass(frozen=True, slots=True)
class Measured:
    seconds: list[float]
    wall: float

    def percentile(self, share: float) -> float:
        return sorted(self.seconds)[min(len(self.seconds) - 1, int(len(self.seconds) * share))] * 1000


async def load(port: int, path: str, *, clients: int, seconds: float) -> Measured:
    taken: list[float] = []
    until = time.perf_counter() + seconds

    async def client() -> None:
        connection = Connection(port)
        await connection.open()
        while (began := time.perf_counter()) < until:
            status, _ = await connection.get(path)
            taken.append(time.perf_counter() - began)
            if status != 200:
                raise SystemExit(f"{path}: {status}")
        connection.close()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return Measured(taken, time.perf_counter() - began)


async def fetched(port: int, path: str) -> tuple[bytes, float]:
    connection = Connection(port)
    await connection.open()
    began = time.perf_counter()
    status, body = await connection.get(path)
    seconds = time.perf_counter() - began
    connection.close()
    if status != 200:
        raise SystemExit(f"{path}: {status} {body[:200]!r}")
    return body, seconds


def bench_reads(folder: Path, kind: str, size: Size, /) -> list[dict[str, Any]]:
    database = seeded(folder, kind, size)
    url = database.engine.url.render_as_string(hide_password=False)
    reads = {
        "models, filtered": "/v1/models?family=resnet&licence=mit&max_params=200000000",
        f"a ranking, {size.models_per_ranking} models × 20": f"/v1/rankings/{ident('rk', size.datasets // 2)}",
        "recommendations of its dataset": f"/v1/datasets/{ident('ds', size.datasets // 2)}/recommendations",
        "rankings": "/v1/rankings",
        "a dataset": f"/v1/datasets/{ident('ds', size.datasets // 2)}",
    }
    port, bare_port = free_port(), free_port()
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        settings = {"ZOOSCOUT_DATA_DIR": str(folder / "data")}
        if kind == "postgresql":
            settings["ZOOSCOUT_DATABASE__URL"] = url
        serve = ["service.cli", "serve", "--no-worker", "--port", str(port)]
        with process(serve, port, **settings):
            first = {}
            for number, (name, path) in enumerate(reads.items()):
                body, first[name] = asyncio.run(fetched(port, path))
                (Path(scratch) / f"{number:03d}").write_bytes(body)
            with process(["benchmarks.api", "--bare", str(bare_port)], bare_port, **{BODIES: scratch}):
                for number, (name, path) in enumerate(reads.items()):
                    if asyncio.run(fetched(bare_port, f"/{number}"))[0] != asyncio.run(fetched(port, path))[0]:
                        raise SystemExit(f"{path}: the bytes differ")
                    mine: list[Measured] = []
                    theirs: list[Measured] = []
                    for _ in range(ROUNDS):
                        theirs.append(asyncio.run(load(bare_port, f"/{number}", clients=CLIENTS, seconds=SECONDS)))
                        mine.append(asyncio.run(load(port, path, clients=CLIENTS, seconds=SECONDS)))
                    own, other = pooled(mine), pooled(theirs)
                    results.append(
                        {
                            "database": kind,
                            "read": name,
                            "bytes": (Path(scratch) / f"{number:03d}").stat().st_size,
                            "first_ms": round(first[name] * 1000, 1),
                            "requests_per_second": round(len(own.seconds) / own.wall),
                            "p50_ms": round(own.percentile(0.5), 2),
                            "p99_ms": round(own.percentile(0.99), 2),
                            "bare_requests_per_second": round(len(other.seconds) / other.wall),
                            "bare_p50_ms": round(other.percentile(0.5), 2),
                            "bare_p99_ms": round(other.percentile(0.99), 2),
                            "times_bare": round(own.percentile(0.5) / other.percentile(0.5), 2),
                        }
                    )
    database.dispose()
    return results


def pooled(rounds: list[Measured], /) -> Measured:
    return Measured([s for r in rounds for s in r.seconds], sum(r.wall for r in rounds))


def archive(path: Path, megabytes: int, /) -> None:
    """Two classes of stored files; what makes an archive another one is its last bytes."""
    chunk = os.urandom(1 << 20)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as made:
        for number in range(megabytes):
            made.writestr(f"{'ab'[number % 2]}/{number}.jpg", chunk)
        made.writestr("a/last.jpg", b"0" * 16)


def write_and_hash(source: Path, folder: Path, writers: int, /) -> float:
    """As many threads as there will be clients, each reading the archive, hashing and writing it, and one fsync."""
    folder.mkdir()

    def work(number: int) -> None:
        digest = hashlib.sha256()
        with source.open("rb") as read, (folder / str(number)).open("xb") as write:
            while data := read.read(1 << 20):
                digest.update(data)
                write.write(data)
            write.flush()
            os.fsync(write.fileno())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(writers)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    shutil.rmtree(folder)
    return seconds


def upload(port: int, source: Path, marker: bytes, answers: list[int], /) -> None:
    """The archive by sendfile, but for its last file's 16 bytes, which differ from client to client."""
    data = source.stat().st_size
    tail = source.read_bytes()[-4096:] if data < 1 << 16 else _tail(source)
    at = tail.index(b"0" * 16)
    tail = tail[:at] + marker + tail[at + 16 :]
    with socket.create_connection(("127.0.0.1", port)) as connection, source.open("rb") as file:
        lines = (
            f"POST /v1/datasets?name=n{marker.decode()} HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            f"Content-Length: {data}",
            "Content-Type: application/zip",
            "Connection: close",
        )
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        connection.sendfile(file, 0, data - len(tail))
        connection.sendall(tail)
        answer = b""
        while received := connection.recv(65536):
            answer += received
    answers.append(int(answer[9:12]) if len(answer) > 12 else 0)


def _tail(source: Path) -> bytes:
    with source.open("rb") as file:
        file.seek(-65536, os.SEEK_END)
        return file.read()


def peak_rss(pid: int, /) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def bench_uploads(clients: int, megabytes: int, rounds: int, /) -> dict[str, Any]:
    disk, service, peak, statuses = [], [], 0, []
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as scratch:
        folder = Path(scratch)
        source = folder / "archive.zip"
        archive(source, megabytes)
        for number in range(rounds):
            disk.append(write_and_hash(source, folder / "written", clients))
            data, port = folder / f"data{number}", free_port()
            serve = ["service.cli", "serve", "--no-worker", "--port", str(port)]
            with process(serve, port, ZOOSCOUT_DATA_DIR=str(data)) as child:
                answers: list[int] = []
                threads = [
                    threading.Thread(target=upload, args=(port, source, f"{n:016d}".encode(), answers))
                    for n in range(clients)
                ]
                began = time.perf_counter()
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                service.append(time.perf_counter() - began)
                peak = max(peak, peak_rss(child.pid))
                statuses += answers
            shutil.rmtree(data)
    return {
        "clients": clients,
        "megabytes_each": megabytes,
        "disk_seconds": [round(s, 2) for s in disk],
        "service_seconds": [round(s, 2) for s in service],
        "times_disk": round(statistics.median(service) / statistics.median(disk), 2),
        "peak_rss_mb": round(peak / 1e6, 1),
        "accepted": statuses.count(202),
        "asked": clients * rounds,
    }


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--bare", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=("reads", "uploads"))
    parser.add_argument("--kind", choices=("postgresql", "sqlite"), help="both if unset")
    parser.add_argument("--clients", type=int, default=64, help="of uploads")
    parser.add_argument("--megabytes", type=int, default=100, help="of an upload")
    parser.add_argument("--rounds", type=int, default=1, help="of uploads")
    given = parser.parse_args()
    if given.bare is not None:
        uvicorn.run(bare(), port=given.bare, log_level="warning", http="h11")
        return
    found: dict[str, Any] = {}
    missed = []
    if given.only != "uploads":
        kinds = (given.kind,) if given.kind else ("postgresql", "sqlite")
        found["reads"] = [r for kind in kinds for r in bench_reads(given.folder, kind, size_of(given))]
        missed += [f"{r['read']}, {r['database']}" for r in found["reads"] if r["times_bare"] > TIMES_BARE]
    if given.only != "reads":
        up = found["uploads"] = bench_uploads(given.clients, given.megabytes, given.rounds)
        bad = up["times_disk"] > TIMES_DISK or up["peak_rss_mb"] * 1e6 > RSS_BYTES or up["accepted"] < up["asked"]
        missed += ["uploads"] if bad else []
    print(json.dumps(found, indent=2, ensure_ascii=False))
    if missed:
        sys.exit(f"Bound missed: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
