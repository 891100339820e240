"""A share of the API's fuzz: whatever is sent, no bug, no undocumented status, nothing outside its schema."""

from pathlib import Path

import pytest
import schemathesis

from service.core.settings import ServerSettings
from tests.helpers import fuzzing
from tests.helpers.inhabited import bearer, inhabit
from tests.helpers.service import running, settings_for
from tests.helpers.zoo import TinyZoo

EXAMPLES = 5  # of each endpoint; `make fuzz-api` has ten thousand cases


@pytest.mark.parametrize(("kind", "keyed"), [("sqlite", False), ("postgresql", True)])
def test_whatever_is_sent(kind: str, keyed: bool, tmp_path: Path, tiny_zoo: TinyZoo, request) -> None:
    url = request.getfixturevalue("postgres").migrated() if kind == "postgresql" else None
    settings = settings_for(tmp_path / "data", url).model_copy(update={"server": ServerSettings(require_key=keyed)})
    with running(settings, raise_bugs=False) as on:
        headers = bearer(on, "fuzzed") if keyed else {}
        known = inhabit(on, tiny_zoo.good[:1], headers)
        schema = schemathesis.openapi.from_asgi(
            "/openapi.json",
            on.client.app,
            config=fuzzing.config(
                seed=int(keyed), examples=EXAMPLES, phases=["fuzzing"], headers=headers | {"Host": "127.0.0.1"}
            ),
        )
        fuzzing.know(schema, known)
        found = fuzzing.run(schema)
    assert found.failures == {}, "\n".join(f"{k}: {v}" for k, v in found.failures.items())
    assert found.cases >= 150
    assert len(found.beyond_the_door) >= 25, found.operations


def test_a_bug_and_an_answer_outside_its_schema_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    with running(settings_for(tmp_path / "data", None), raise_bugs=False) as on:
        loaded = schemathesis.openapi.from_asgi(
            "/openapi.json",
            on.client.app,
            config=fuzzing.config(seed=0, examples=2, phases=["fuzzing"], headers={"Host": "127.0.0.1"}),
        )
        monkeypatch.setattr("service.models.service.show", broken)
        found = fuzzing.run(loaded.include(path="/v1/models/{model}", method="GET"))
        assert any("Server" in said or "ZeroDivision" in said for said in found.failures.values()), found.failures
        loaded.raw_schema["paths"]["/v1/models"]["get"]["responses"].pop("200")
        found = fuzzing.run(loaded.include(path="/v1/models", method="GET"))
        assert any("status_code_conformance" in key for key in found.failures), found.failures
