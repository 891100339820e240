"""Fixtures of the service's tests: databases of both kinds, a small real zoo, the service in one process."""

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.core.db import Database
from service.core.migrate import upgrade
from service.schema import all_tables
from tests.helpers.databases import KINDS, PostgresServer, opened
from tests.helpers.s3 import S3Server
from tests.helpers.service import Service, running, settings_for
from tests.helpers.zoo import TinyZoo, make_zoo

CHOOSE_TESTS = {"ZOOSCOUT_SLOW_TESTS", "ZOOSCOUT_TEST_FETCH"}


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background: processes under test would have it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("ZOOSCOUT_") and name not in CHOOSE_TESTS]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    # A short path of its own: a socket's name has a hundred characters at most.
    with tempfile.TemporaryDirectory(prefix="zs-pg-", ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder))
        yield server
        server.stop()


@pytest.fixture(scope="session")
def _s3_server() -> Iterator[S3Server]:
    with tempfile.TemporaryDirectory(prefix="zs-s3-", ignore_cleanup_errors=True) as folder:
        server = S3Server(Path(folder))
        yield server
        server.stop()


@pytest.fixture
def s3(_s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """A server, and the environment that leads to it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in _s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return _s3_server


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def empty_url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A database without a table."""
    if kind == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.sqlite'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.empty()


@pytest.fixture
def database_url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A database at the newest migration."""
    if kind == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        return server.migrated()
    url = f"sqlite:///{tmp_path / 'migrated.sqlite'}"
    all_tables()
    with opened(url) as database:
        upgrade(database)
    return url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with opened(database_url) as database:
        yield database


@pytest.fixture(scope="session")
def tiny_zoo(tmp_path_factory: pytest.TempPathFactory) -> TinyZoo:
    import torch

    torch.set_num_threads(1)  # the models are too small to share among threads
    return make_zoo(tmp_path_factory.mktemp("zoo"))


@pytest.fixture
def make_service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Starts services on SQLite with the settings given; all end with the test."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def make(*, url: str | None = None, raise_bugs: bool = True, **groups: object) -> Service:
            return stack.enter_context(running(settings_for(tmp_path / "data", url, **groups), raise_bugs=raise_bugs))

        yield make


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """The service on SQLite."""
    with running(settings_for(tmp_path / "data", None)) as started:
        yield started


@pytest.fixture
def each_service(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Service]:
    """The service on SQLite, then on PostgreSQL."""
    url = None
    if kind == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        url = server.migrated()
    with running(settings_for(tmp_path / "data", url)) as started:
        yield started
