"""`zooscout store verify`: every kind of damage is found, and just what was lost is embedded again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from service.cli.main import command_line
from service.embeddings import repository
from service.embeddings.model import Kind, SegmentInfo, SegmentNames
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import Service, cli, environment
from tests.helpers.zoo import TinyZoo

Verify = Callable[..., dict[str, Any]]


def segments(service: Service, *, state: str = "active") -> list[SegmentInfo]:
    with service.database.read() as session:
        return [info for info in repository.all_segments(session, "default") if info.state == state]


def path_of(service: Service, info: SegmentInfo, part: str) -> Path:
    return service.settings.segment_root / getattr(SegmentNames.of(info.key, info.id), part)


@pytest.fixture
def verify(service: Service, monkeypatch: pytest.MonkeyPatch) -> Verify:
    """The command in this process, which has torch loaded already."""
    for name, value in environment(service.settings).items():
        if name.startswith("ZOOSCOUT_"):
            monkeypatch.setenv(name, value)

    def run(*options: str, status: int = 0) -> dict[str, Any]:
        done = CliRunner().invoke(command_line(), ["store", "verify", "--json", *options])
        assert done.exit_code == status, (done.output, done.exception)
        return json.loads(done.stdout)

    return run


def cut(path: Path, _other: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def flip(path: Path, _other: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def swap(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


def remove(path: Path, _other: Path) -> None:
    path.unlink()


@pytest.fixture
def ranked(service: Service, tiny_zoo: TinyZoo) -> dict[str, Any]:
    """Two models, one with source probabilities, on 18 images."""
    service.add_models(tiny_zoo.good[:2])
    dataset = service.sealed(zipped(class_folders(each=6)))
    return service.ranked(dataset["id"], tiny_zoo.names[:2], estimators=["logme", "knn", "leep"])


@pytest.mark.parametrize(
    ("damage", "part", "says"),
    [
        (cut, "vectors", "bytes"),
        (cut, "hashes", "bytes"),
        (flip, "vectors", "its bytes are not"),
        (flip, "hashes", "its bytes are not"),
        (swap, "vectors", "is a file of"),
        (remove, "vectors", "is gone"),
        (remove, "hashes", "is gone"),
    ],
)
@pytest.mark.parametrize("kind", list(Kind))
def test_damage_is_found_and_just_that_is_embedded_again(
    service: Service, verify: Verify, ranked, damage: Callable[[Path, Path], None], part: str, says: str, kind: Kind
) -> None:
    before = {info.id: info for info in segments(service)}
    assert len(before) == 3
    bad = next(info for info in before.values() if info.key.kind == kind)
    other = next(info for info in before.values() if info.id != bad.id)
    hashes = sorted_hashes(service, bad)
    rows = service.worker.store.get(bad.key, hashes)
    damage(path_of(service, bad, part), path_of(service, other, part))
    found = verify()
    (problem,) = found["damaged"]
    assert says in problem.pop("problem")
    assert problem.pop("model") in {entry["model"] for entry in ranked["entries"]}
    assert problem == {
        "segment": bad.id,
        "extractor_id": bad.key.extractor_id,
        "kind": kind,
        "rows": 18,
        "rows_embedded_again": 18,
        "rows_lost": 0,
        "why": None,
    }
    assert found["sound"]
    after = {info.id for info in segments(service)}
    assert after & set(before) == set(before) - {bad.id}
    assert len(after) == 3
    np.testing.assert_allclose(service.worker.store.get(bad.key, hashes), rows, rtol=1e-5, atol=1e-6)
    assert verify() == {**found, "damaged": []}


def sorted_hashes(service: Service, info: SegmentInfo) -> list[bytes]:
    data = path_of(service, info, "hashes").read_bytes()
    return [data[i : i + 32] for i in range(0, len(data), 32)]


def test_without_repair_the_next_ranking_embeds_what_was_lost(
    service: Service, verify: Verify, ranked, tiny_zoo: TinyZoo
) -> None:
    bad = next(info for info in segments(service) if info.key.kind == Kind.FEATURES)
    flip(path_of(service, bad, "vectors"), Path())
    found = verify("--no-repair", status=1)
    assert not found["sound"]
    assert found["damaged"][0]["rows_lost"] == 18
    assert found["damaged"][0]["why"] == "not tried"
    assert [info.id for info in segments(service, state="damaged")] == [bad.id]
    ident = ranked["dataset"]["id"]
    again = service.ranked(ident, tiny_zoo.names[:2], estimators=["gbc"])
    assert again["progress"]["images_embedded"] == 18
    assert verify()["sound"]


def test_a_sound_store_is_sound(service: Service, verify: Verify, ranked) -> None:
    found = verify()
    assert found["damaged"] == []
    assert (found["segments"], found["rows"]) == (3, 54)
    told = cli(service.settings, "store", "verify")
    assert told.stdout == "3 segments with 54 rows are sound.\n"


def test_what_no_model_can_embed_again_is_said_to_be_lost(
    service: Service, verify: Verify, ranked, tiny_zoo: TinyZoo
) -> None:
    bad = next(info for info in segments(service) if info.key.kind == Kind.SOURCE_PROBS)
    cut(path_of(service, bad, "vectors"), Path())
    model = tiny_zoo.good[0].path
    kept = model.read_bytes()
    model.unlink()
    try:
        found = verify(status=1)
    finally:
        model.write_bytes(kept)
    assert found["damaged"][0]["rows_lost"] == 18
    assert "WeightsNotFound" in found["damaged"][0]["why"]
    again = verify()
    assert again["damaged"][0]["rows_embedded_again"] == 18
    assert "earlier" in again["damaged"][0]["problem"]


def test_ls_says_what_is_stored(service: Service, ranked, tiny_zoo: TinyZoo) -> None:
    done = cli(service.settings, "store", "ls", "--json")
    listed = json.loads(done.stdout)["embeddings"]
    assert {(row["model"], row["kind"], row["rows"]) for row in listed} == {
        (tiny_zoo.names[0], "features", 18),
        (tiny_zoo.names[0], "source_probs", 18),
        (tiny_zoo.names[1], "features", 18),
    }
    table = cli(service.settings, "store", "ls").stdout
    assert all(name in table for name in tiny_zoo.names[:2])
