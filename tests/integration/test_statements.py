"""No read asks the database more often where there is more to tell: as many statements for three times the rows."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import Engine, event

from benchmarks.seeding import Size, ident, seed
from service.api.app import create_app
from tests.helpers.databases import opened
from tests.helpers.service import settings_for

FEW, MANY = Size(models=24, datasets=6, models_per_ranking=8), Size(models=72, datasets=18, models_per_ranking=24)
IDS = {"dataset": ident("ds", 2), "ranking": ident("rk", 2), "model": ident("mdl", 3)}
PARAMS = {"/v1/changes": {"dataset": IDS["dataset"]}}
NOT_SEEDED = {"/v1/datasets/{dataset}/signature"}
# A stream, and what is read from files that only a worker makes.
ELSEWHERE = {
    "/v1/rankings/{ranking}/events",
    "/v1/datasets/{dataset}/neighbours",
    "/v1/datasets/{dataset}/map",
    "/v1/datasets/{dataset}/embeddings",
}


@contextmanager
def counted(engine: Engine) -> Iterator[list[str]]:
    said: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        said.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield said
    finally:
        event.remove(engine, "before_cursor_execute", note)


def reads(app: FastAPI) -> list[str]:
    """All that the description has and whose ids the seeded rows have."""
    paths = [path for path, methods in app.openapi()["paths"].items() if "get" in methods and path not in ELSEWHERE]
    return [path for path in paths if set(re.findall(r"{(\w+)}", path)) <= set(IDS)]


def asked(folder: Path, size: Size) -> dict[str, tuple[int, list[str]]]:
    """The status of each read and the statements that it took."""
    settings = settings_for(folder / "data", None)
    (folder / "data").mkdir(parents=True)
    with opened(settings.database_url) as database:
        seed(database, size)
    app = create_app(settings)
    found = {}
    with TestClient(app, base_url="http://localhost") as client:
        engine: Engine = app.state.zooscout.database.engine
        for path in reads(app):
            with counted(engine) as said:
                answer = client.get(path.format(**IDS), params=PARAMS.get(path))
            found[path] = answer.status_code, said
    return found


def test_statements_do_not_grow_with_the_rows(tmp_path: Path) -> None:
    few, many = asked(tmp_path / "few", FEW), asked(tmp_path / "many", MANY)
    assert {"/v1/models", "/v1/rankings/{ranking}", "/v1/datasets/{dataset}/recommendations"} <= few.keys()
    for path, (status, said) in few.items():
        assert (status == 200) is (path not in NOT_SEEDED), (path, status)
        assert many[path][0] == status, path
        assert len(many[path][1]) == len(said), (path, [s for s in many[path][1] if s not in said] or many[path][1])
