"""The same commands with --url, against a served service; what each exits with."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.cli.main import run
from service.core.settings import Settings
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import process, running, settings_for, wait_until
from tests.helpers.zoo import TinyZoo

Finished = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_zoo: TinyZoo) -> Iterator[tuple[str, Settings]]:
    folder = tmp_path_factory.mktemp("remote")
    settings, log = settings_for(folder / "data", None), folder / "log"
    with running(settings) as service:
        service.add_models([tiny_zoo.good[0], tiny_zoo.wrong])
    with process(settings, log, "service.cli", "serve", "--port", "0"):
        wait_until(lambda: "zooscout is at" in log.read_text(), why="serve starts")
        found = re.search(r"zooscout is at (http://\S+)", log.read_text())
        assert found is not None
        yield found[1], settings


@pytest.fixture
def there(
    served: tuple[str, Settings], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Finished]:
    """A command in this process with ZOOSCOUT_URL, and a data directory that must stay empty."""
    monkeypatch.setenv("ZOOSCOUT_URL", served[0])
    monkeypatch.setenv("ZOOSCOUT_DATA_DIR", str(tmp_path / "own"))
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> Finished:
        monkeypatch.setattr("sys.argv", ["zooscout", *words])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            run()
        said = capfd.readouterr()
        assert not (tmp_path / "own").exists()
        return Finished(words, int(ended.value.code or 0), said.out, said.err)

    return call


def test_a_folder_is_ranked_by_a_service_and_what_it_made_is_shown_and_removed(
    there: Callable[..., Finished], tmp_path: Path, tiny_zoo: TinyZoo
) -> None:
    for name, data in class_folders().items():
        (tmp_path / "trees" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "trees" / name).write_bytes(data)
    good = tiny_zoo.names[0]
    ranked = there("rank", "trees", "--models", good, "--json")
    assert ranked.returncode == 0, ranked.stderr
    view = json.loads(ranked.stdout)
    assert view["dataset"]["name"] == "trees"
    some = there("rank", "trees", "--models", "tiny_*", "--json")
    assert some.returncode == 6, some.stderr
    assert json.loads(there("rankings", "show", view["id"], "--json").stdout) == view
    assert good in there("rankings", "follow", view["id"]).stdout
    listed = json.loads(there("datasets", "ls", "--json").stdout)
    assert [d["id"] for d in listed["items"]] == [view["dataset"]["id"]]
    out = tmp_path / "rows.parquet"
    assert there("embeddings", "export", "trees", "--model", good, "-o", str(out)).returncode == 0
    assert out.read_bytes()[:4] == b"PAR1"
    assert there("reference", "show").returncode == 4
    assert there("datasets", "show", "nobody").returncode == 4
    assert "in no quarantine" in there("models", "release", good).stdout
    assert there("models", "release", "nobody").returncode == 4
    assert there("models", "ls", "--input-size", "0").returncode == 3
    assert there("models", "ls", "--limit", "0").returncode == 2
    assert there("rankings", "rm", view["id"]).returncode == 0
    assert there("rankings", "show", view["id"]).returncode == 4
    bad = tmp_path / "bad.zip"
    bad.write_bytes(zipped({"a/1.png": b"no image", "b/1.png": b"none"}))
    assert there("datasets", "add", str(bad)).returncode == 3


def test_what_works_on_the_machine_alone_says_so_and_who_does_not_answer_is_named(
    there: Callable[..., Finished],
) -> None:
    for words in (("db", "check"), ("store", "gc"), ("keys", "ls"), ("serve",), ("worker",)):
        refused = there(*words, "--url", "http://127.0.0.1:9")
        assert refused.returncode == 2, words
        assert f"zooscout {' '.join(words)}" in refused.stderr
    away = there("models", "ls", "--url", "http://127.0.0.1:9")
    assert away.returncode == 7
    assert "--url" in away.stderr
    assert there("models", "ls", "--url", "nonsense").returncode == 2
    wrong = there("models", "ls", "--key", "nonsense")
    assert wrong.returncode == 5, wrong.stderr
