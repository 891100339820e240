"""`zooscout db`: what check finds, and backups that bring everything back."""

import json
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import text

from service.core.backup import back_up, restore
from service.core.db import Database
from service.core.errors import Conflict, InvalidRequest
from service.core.migrate import alembic_config, current_revision, head_revision, upgrade
from service.schema import all_tables
from tests.helpers.databases import PostgresServer, opened
from tests.helpers.service import Service, cli
from tests.helpers.zoo import TinyZoo

KEY = text(
    "INSERT INTO api_keys (id, project_id, name, secret_sha256, scope, created_at)"
    " VALUES (:id, 'default', :id, 'x', 'read', CURRENT_TIMESTAMP)"
)


@pytest.fixture
def programs(kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL's own programs, of the version of the tests' server, come first."""
    if kind == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        monkeypatch.setenv("PATH", f"{server.programs}{os.pathsep}{os.environ['PATH']}")


def fill(database: Database, *idents: str) -> None:
    with database.write() as session:
        for ident in idents:
            session.execute(KEY, {"id": ident})


def held(database: Database) -> list[str]:
    with database.read() as session:
        return list(session.execute(text("SELECT id FROM api_keys ORDER BY id")).scalars())


def give_back(database: Database, source: Path, *, overwrite: bool) -> None:
    restore(database, source, overwrite=overwrite, tables=list(all_tables().tables))


@pytest.mark.usefixtures("programs")
def test_a_backup_brings_back_what_was_there_and_only_with_force(database: Database, tmp_path: Path) -> None:
    target = tmp_path / "backup"
    fill(database, "a", "b")
    back_up(database, target, overwrite=False)
    with pytest.raises(Conflict, match="--force"):
        back_up(database, target, overwrite=False)
    fill(database, "c")
    with pytest.raises(Conflict, match="--force"):
        give_back(database, target, overwrite=False)
    assert held(database) == ["a", "b", "c"]
    give_back(database, target, overwrite=True)
    assert held(database) == ["a", "b"]
    assert current_revision(database) == head_revision()
    fill(database, "d")
    assert [path.name for path in tmp_path.iterdir() if "backup" in path.name] == ["backup"]


@pytest.mark.usefixtures("programs")
def test_a_backup_goes_into_an_empty_database(
    kind: str, database: Database, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    fill(database, "a")
    back_up(database, tmp_path / "backup", overwrite=False)
    url = f"sqlite:///{tmp_path / 'other.sqlite'}"
    if kind == "postgresql":
        url = request.getfixturevalue("postgres").empty()
    with opened(url) as other:
        give_back(other, tmp_path / "backup", overwrite=False)
        assert held(other) == ["a"]


@pytest.mark.usefixtures("programs")
def test_an_old_backup_replaces_a_newer_schema_and_is_upgraded(empty_url: str, tmp_path: Path) -> None:
    all_tables()
    with opened(empty_url) as database:
        command.upgrade(alembic_config(database), "0004")
        back_up(database, tmp_path / "old", overwrite=False)
        upgrade(database)
        give_back(database, tmp_path / "old", overwrite=True)
        assert current_revision(database) == "0004"
        upgrade(database)
        fill(database, "a")


@pytest.mark.usefixtures("programs")
def test_a_backup_that_cannot_be_restored_leaves_the_database_as_it_is(database: Database, tmp_path: Path) -> None:
    fill(database, "a")
    whole, half, foreign = tmp_path / "whole", tmp_path / "half", tmp_path / "foreign"
    back_up(database, whole, overwrite=False)
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    foreign.write_bytes(b"not a database" * 1000)
    for bad in (half, foreign, tmp_path / "absent"):
        with pytest.raises(InvalidRequest):
            give_back(database, bad, overwrite=True)
        assert held(database) == ["a"]
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    back_up(database, tmp_path / "newer", overwrite=False)
    with pytest.raises(InvalidRequest, match="9999"):
        give_back(database, tmp_path / "newer", overwrite=True)


@pytest.mark.usefixtures("programs")
def test_a_backup_while_others_write_is_one_moment(database: Database, tmp_path: Path) -> None:
    stop, written = threading.Event(), threading.Event()

    def write() -> None:
        n = 0
        while not stop.is_set():
            fill(database, f"{n:05}-left", f"{n:05}-right")
            n += 1
            if n == 5:
                written.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert written.wait(30)
        back_up(database, tmp_path / "backup", overwrite=False)
    finally:
        stop.set()
        writer.join()
    after = held(database)
    give_back(database, tmp_path / "backup", overwrite=True)
    found = held(database)
    assert 10 <= len(found) <= len(after)
    assert [name.split("-")[0] for name in found[::2]] == [f"{n:05}" for n in range(len(found) // 2)]
    assert len(found) % 2 == 0  # no transaction in half


def test_without_postgresqls_programs_the_error_names_them(
    kind: str, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "sqlite":
        pytest.skip("SQLite needs no program")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InvalidRequest, match=r"'pg_dump' is not on PATH.*pg_restore and psql"):
        back_up(database, tmp_path / "backup", overwrite=False)


def test_check_finds_files_that_are_gone(service: Service, tiny_zoo: TinyZoo) -> None:
    service.add_models(tiny_zoo.good[:1])
    dataset = service.sealed()
    service.ranked(dataset["id"], [tiny_zoo.good[0].name])
    said = cli(service.settings, "db", "check", "--json")
    assert (said.returncode, json.loads(said.stdout)["problems"]) == (0, [])
    service.files("blobs")[0].unlink()
    service.files("segments")[0].unlink()
    said = cli(service.settings, "db", "check", "--json")
    assert said.returncode == 1
    segment, images = sorted(json.loads(said.stdout)["problems"], key=len, reverse=True)
    assert "zooscout store verify" in segment
    assert images.startswith(f"1 of {dataset['n_images']} images of dataset {dataset['id']}")
    service.files("manifests")[0].unlink()
    assert f"manifest of dataset {dataset['id']}" in cli(service.settings, "db", "check").stderr


Damage = Callable[[Database], None]


def without_index(database: Database) -> None:
    with database.write() as session:
        session.execute(text("DROP INDEX ix_rankings_dataset_id"))


def with_orphan(database: Database) -> None:
    session_off = "PRAGMA foreign_keys=OFF" if database.is_sqlite else "SET session_replication_role = replica"
    driver = database.engine.raw_connection()
    driver.driver_connection.execute(session_off)
    driver.driver_connection.execute("INSERT INTO model_tags (model_id, key, value) VALUES ('md_none', 'k', 'v')")
    driver.driver_connection.commit()
    driver.invalidate()


@pytest.mark.parametrize(
    ("damage", "expected"), [(without_index, "ix_rankings_dataset_id"), (with_orphan, "1 rows of model_tags name by")]
)
def test_check_finds_what_is_wrong_in_the_database(database: Database, damage: Damage, expected: str) -> None:
    from service.core.integrity import find_problems

    assert find_problems(database, all_tables()) == []
    damage(database)
    problems = find_problems(database, all_tables())
    assert len(problems) == 1
    assert expected in problems[0]


def test_check_finds_a_damaged_page(service: Service) -> None:
    path = service.data_dir / "zooscout.sqlite"
    with service.database.read() as session:
        root = session.execute(text("SELECT rootpage FROM sqlite_master WHERE name = 'projects'")).scalar_one()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    connection.close()
    with path.open("r+b") as handle:
        handle.seek((root - 1) * size)
        handle.write(b"\xff" * size)
    said = cli(service.settings, "db", "check")
    assert said.returncode == 1
    assert "Traceback" not in said.stderr
