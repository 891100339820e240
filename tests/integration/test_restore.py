"""A whole service from its backup: as docs/operations.md says it, while the service went on working."""

import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli.main import command_line
from service.core.settings import Settings
from tests.helpers.databases import PostgresServer
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import environment, running, settings_for, without
from tests.helpers.zoo import TinyZoo


def db(settings: Settings, *words: str, **more: str) -> None:
    done = CliRunner().invoke(command_line(["db"]), ["db", *words], env=environment(settings, **more))
    assert done.exit_code == 0, (done.output, done.exception)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_a_backup_and_a_copy_after_it_hold_is_the_service_again(
    kind: str, tmp_path: Path, tiny_zoo: TinyZoo, request: pytest.FixtureRequest
) -> None:
    old = new = None
    more = {}
    if kind == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres")
        old, new = server.migrated(), server.empty()
        more["PATH"] = f"{server.programs}{os.pathsep}{os.environ['PATH']}"
    first = settings_for(tmp_path / "first" / "data", old)
    first.data_dir.parent.mkdir()
    with running(first) as service:
        service.add_models(tiny_zoo.good[:2])
        dataset = service.sealed()
        before = service.ranked(dataset["id"], tiny_zoo.names[:2], estimators=["logme", "knn"])
        db(first, "backup", str(tmp_path / "backup"), **more)
        later = service.sealed(zipped(class_folders(seed=7)), name="later")
        shutil.copytree(first.data_dir, tmp_path / "copy", ignore=shutil.ignore_patterns("*.sqlite*", "cache"))
    shutil.rmtree(first.data_dir)
    second = settings_for(tmp_path / "second" / "data", new)
    shutil.copytree(tmp_path / "copy", second.data_dir)
    db(second, "restore", str(tmp_path / "backup"), **more)
    db(second, "check", **more)
    with running(second) as service:
        assert service.call("GET", f"/v1/rankings/{before['id']}") == before
        service.call("GET", f"/v1/datasets/{later['id']}", 404)  # made after the backup
        again = service.ranked(dataset["id"], tiny_zoo.names[:2], estimators=["logme", "knn"])
        assert again["progress"]["images_to_embed"] == 0
        assert [without(e, "model_id") for e in again["entries"]] == [without(e, "model_id") for e in before["entries"]]
        assert service.sealed(zipped(class_folders(seed=7)), name="later")["fingerprint"] == later["fingerprint"]
