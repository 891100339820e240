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
