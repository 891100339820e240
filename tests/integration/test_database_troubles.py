"""A database that is away, busy, full or slow: 503 and when to come back, and no restart once it is there again."""

import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from anyio.to_thread import current_default_thread_limiter
from httpx import Response
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from service.core.db import OVERFLOW, is_passing
from service.core.settings import DatabaseSettings
from tests.helpers.databases import PostgresServer, opened
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import Service, running, settings_for

IMPORT = {"source": "timm", "filter": "nothing*"}


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Starts a service whose database has little patience or few connections."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def start(url: str | None, **database: int) -> Service:
            settings = settings_for(tmp_path / "data", url)
            changed = settings.model_copy(update={"database": DatabaseSettings(url=url, **database)})
            return stack.enter_context(running(changed, raise_bugs=False))

        yield start


def assert_unavailable(answer: Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    problem = answer.json()
    assert problem["type"] == "/problems/database-unavailable"
    for inside in ("SELECT", "sqlalche", "psycopg", "sqlite3", "Traceback", "models"):
        assert inside not in problem["detail"]


@contextmanager
def holding(service: Service, *statements: str) -> Iterator[None]:
    with opened(service.settings.database_url) as patient, patient.engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
        yield
        connection.rollback()


def test_a_statement_that_runs_too_long(postgres: PostgresServer, limited: Callable[..., Service]) -> None:
    service = limited(postgres.migrated(), statement_timeout_ms=200)
    with holding(service, "LOCK TABLE models IN ACCESS EXCLUSIVE MODE"):
        service.call("GET", "/v1/datasets")
        assert_unavailable(service.client.get("/v1/models"))
    service.call("GET", "/v1/models")


def test_a_transaction_that_rests_too_long_lets_go(postgres: PostgresServer, limited: Callable[..., Service]) -> None:
    service = limited(postgres.migrated(), statement_timeout_ms=300)
    with service.database.engine.connect() as connection:
        connection.execute(text("LOCK TABLE models IN ACCESS EXCLUSIVE MODE"))
        assert connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar_one() == "300ms"
        threading.Event().wait(0.6)
        service.call("GET", "/v1/models")  # nothing holds the table any more
        with pytest.raises(DBAPIError) as found:
            connection.execute(text("SELECT 1"))
        assert is_passing(found.value)
        connection.invalidate()


def test_every_connection_taken(kind: str, limited: Callable[..., Service], request, monkeypatch) -> None:
    monkeypatch.setattr("service.core.db.POOL_WAIT_SECONDS", 0.2)
    url = request.getfixturevalue("postgres").migrated() if kind == "postgresql" else None
    service = limited(url, pool_size=1)
    engine = service.client.app.state.zooscout.database.engine  # type: ignore[attr-defined]
    taken = [engine.raw_connection() for _ in range(1 + OVERFLOW)]
    assert_unavailable(service.client.get("/v1/models"))
    assert service.client.get("/healthz").status_code == 200
    assert service.client.get("/readyz").status_code == 503
    for connection in taken:
        connection.close()
    service.call("GET", "/v1/models")


def test_another_writer_that_takes_too_long(limited: Callable[..., Service]) -> None:
    service = limited(None, busy_timeout_ms=100)
    with holding(service, "SELECT 1"):  # begins as a writer does
        assert_unavailable(service.client.post("/v1/models/import", json=IMPORT))
        assert_unavailable(service.client.post("/v1/datasets", content=zipped(class_folders())))
        assert service.files("uploads") == []
        service.call("GET", "/v1/models")  # readers do not wait for writers
    service.call("POST", "/v1/models/import", 202, json=IMPORT)


def test_what_is_wrong_for_good_is_no_passing_trouble(limited: Callable[..., Service], kind: str, request) -> None:
    service = limited(request.getfixturevalue("postgres").migrated() if kind == "postgresql" else None)
    with service.database.engine.begin() as connection:
        connection.execute(text("ALTER TABLE models RENAME TO elsewhere"))
    answer = service.client.get("/v1/models")
    assert answer.status_code == 500
    assert "elsewhere" not in answer.text
    assert "Traceback" not in answer.text


def test_no_more_threads_than_connections(limited: Callable[..., Service]) -> None:
    service = limited(None, pool_size=7)
    portal = service.client.portal
    assert portal is not None
    assert portal.call(lambda: current_default_thread_limiter().total_tokens) == 7


def test_postgresql_goes_and_comes_back(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="zs-pg-", ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder))
        try:
            with running(settings_for(tmp_path / "data", server.migrated()), raise_bugs=False) as service:
                made = service.call("POST", "/v1/models/import", 202, json=IMPORT)
                for _ in range(2):
                    server.down()
                    assert_unavailable(service.client.get("/v1/models"))
                    assert_unavailable(service.client.post("/v1/models/import", json=IMPORT))
                    assert_unavailable(service.client.post("/v1/datasets", content=zipped(class_folders())))
                    assert service.files("uploads") == []
                    assert service.client.get("/healthz").status_code == 200
                    assert service.call("GET", "/readyz", 503)["database"] is False
                    server.up()
                    again = service.client.get(f"/v1/models/import/{made['task_id']}")
                    assert again.status_code == 200, again.text  # the first request, with no restart
                service.call("POST", "/v1/models/import", 202, json=IMPORT)
        finally:
            server.stop()


def test_connections_that_the_server_closed_are_made_again(postgres: PostgresServer, tmp_path: Path) -> None:
    with running(settings_for(tmp_path / "data", postgres.migrated()), raise_bugs=False) as service:
        service.call("GET", "/v1/models")
        with service.database.read() as session:
            ended = session.execute(
                text(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            ).scalar_one()
        assert ended >= 1
        service.call("GET", "/v1/models")
