"""`zooscout db`: the schema, and copies of the whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer

from service.blobs.store import BlobStore
from service.cli.output import err, fail, out, print_json
from service.core.backup import back_up, restore
from service.core.db import Database
from service.core.integrity import find_problems
from service.core.migrate import current_revision, head_revision, upgrade
from service.core.settings import Settings
from service.datasets import repository as datasets
from service.datasets.manifest import read_manifest
from service.embeddings import repository as embeddings
from service.embeddings.files import open_files
from service.embeddings.model import SegmentNames
from service.keys import repository as keys
from service.schema import all_tables

app = typer.Typer(help="The database that ZOOSCOUT_DATABASE__URL names.", no_args_is_help=True)
Force = Annotated[bool, typer.Option("--force", help="replace what is there")]


@contextmanager
def _opened() -> Iterator[tuple[Settings, Database]]:
    all_tables()
    settings = Settings()
    database = Database.from_settings(settings)
    try:
        yield settings, database
    finally:
        database.dispose()


@app.command("upgrade")
def upgrade_schema() -> None:
    """Bring the database to this version's schema, beside running services.

    All of it or nothing. On PostgreSQL each try holds the tables for half a second at most before it lets others go
    first; it gives up after a minute and says who is in the way.
    """
    with _opened() as (_, database):
        before = current_revision(database)
        upgrade(database)
        name = database.engine.url.render_as_string(hide_password=True)
        out.print(f"{name}: {before or 'empty'} → {current_revision(database)}", soft_wrap=True)


@app.command("check")
def check(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Compare revision and schema with this version's, look for damage, and for files that rows name and are gone.

    Reads the database once and no file's content: `zooscout store verify` does that. Exit status 1 on any problem.
    """
    with _opened() as (settings, database):
        problems = find_problems(database, all_tables())
        head = head_revision()
        if not problems:
            problems += _missing_files(settings, database)
    if as_json:
        print_json({"sound": not problems, "migration": head, "problems": problems})
    else:
        for problem in problems:
            err.print(problem, markup=False, soft_wrap=True)
    if problems:
        fail(f"{len(problems)} problem{'s' * (len(problems) > 1)} found.")
    if not as_json:
        out.print(f"At migration {head}; schema, integrity and files are in order.")


def _missing_files(settings: Settings, database: Database) -> list[str]:
    files, blobs, found = open_files(settings), BlobStore(settings.blob_root), []
    with database.read() as session:
        projects = keys.project_ids(session)
    for project in projects:
        with database.read() as session:
            states = datasets.states(session, project)
            segments = [info for info in embeddings.all_segments(session, project) if info.state == "active"]
        for dataset in (ident for ident, state in states.items() if state == "sealed"):
            try:
                manifest = read_manifest(settings.manifest_root / project / f"{dataset}.parquet")
            except FileNotFoundError:
                found.append(f"The manifest of dataset {dataset} (project {project}) is gone.")
                continue
            except (ValueError, OSError, pa.ArrowException) as error:
                found.append(f"The manifest of dataset {dataset} (project {project}) cannot be read: {error}")
                continue
            hashes = {row.tobytes().hex() for row in manifest.content_hashes}
            gone = sum(not blobs.exists(project, value) for value in hashes)
            if gone:
                found.append(f"{gone} of {len(hashes)} images of dataset {dataset} (project {project}) are gone.")
        sizes = {file.name: file.size for file in files.listed(project)} if segments else {}
        for info in segments:
            names = SegmentNames.of(info.key, info.id)
            if names.vectors not in sizes or names.hashes not in sizes:
                again = "`zooscout store verify` embeds its rows again"
                found.append(f"Segment {info.id} (project {project}) lacks a file: {again}.")
    return found


@app.command("backup")
def backup(target: Annotated[Path, typer.Argument(help="the file to write")], force: Force = False) -> None:
    """Write the whole database to one file, while the service runs.

    The backup is one moment's state. The files of the data directory are never changed in place: copy them after the
    database, and every file that the backup names is among them. PostgreSQL needs pg_dump on PATH.
    """
    with _opened() as (_, database):
        back_up(database, target, overwrite=force)
        out.print(f"{target}: migration {current_revision(database)}, {target.stat().st_size / 1e6:.1f} MB")


@app.command("restore")
def restore_backup(source: Annotated[Path, typer.Argument(help="what backup wrote")], force: Force = False) -> None:
    """Put a backup in the database's place. Stop the API and the workers first.

    A database that holds anything is replaced only with --force, and in whole or not at all. A backup of an older
    version is brought to this version's schema by `zooscout db upgrade`. PostgreSQL needs pg_restore and psql on PATH.
    """
    with _opened() as (_, database):
        restore(database, source, overwrite=force, tables=list(all_tables().tables))
        current, head = current_revision(database), head_revision()
        hint = "" if current == head else f"; this version is at {head}: run `zooscout db upgrade`"
        out.print(f"Restored {source}: migration {current}{hint}.", soft_wrap=True)
