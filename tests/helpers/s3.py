"""A real S3 server for the tests: the gateway of JuiceFS, which is MinIO's, on files and a SQLite of its own.

It checks signatures, so that wrong credentials are refused as they would be elsewhere.
"""

import itertools
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx

USER, PASSWORD, BUCKET = "tester", "tester-secret-key", "zooscout"


class S3Server:
    """One server for the whole run; every test has a prefix of its own."""

    def __init__(self, folder: Path) -> None:
        program = str(Path(sys.executable).with_name("juicefs"))
        meta = f"sqlite3://{folder / 'meta.db'}"
        quiet = {"check": True, "capture_output": True, "timeout": 60}
        subprocess.run(
            [
                program,
                "format",
                "--no-agent",
                "--storage",
                "file",
                "--bucket",
                f"{folder / 'objects'}/",
                meta,
                "objects",
            ],
            **quiet,
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
        self._log = (folder / "log").open("wb")
        options = ["--no-agent", "--no-banner", "--no-usage-report", "--multi-buckets", "--metrics", "127.0.0.1:0"]
        self._child = subprocess.Popen(
            [program, "gateway", *options, "--cache-dir", str(folder / "cache"), meta, self.endpoint[7:]],
            env=os.environ | {"MINIO_ROOT_USER": USER, "MINIO_ROOT_PASSWORD": PASSWORD},
            stdout=self._log,
            stderr=self._log,
        )
        self._prefixes = (f"s3://{BUCKET}/test-{n}" for n in itertools.count())
        deadline = time.monotonic() + 60
        while not self._answers():
            assert self._child.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, f"no answer from {self.endpoint}"
            time.sleep(0.05)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": USER,
            "AWS_SECRET_ACCESS_KEY": PASSWORD,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def prefix(self) -> str:
        """A URL under which nothing lies yet. Needs the environment."""
        import fsspec

        fsspec.filesystem("s3").makedirs(BUCKET, exist_ok=True)
        return next(self._prefixes)

    def stop(self) -> None:
        self._child.terminate()
        self._child.wait(timeout=30)
        self._log.close()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.endpoint}/minio/health/live", timeout=2).status_code == 200
        except httpx.TransportError:
            return False
