"""The same commands with --url, against a served service; what each exits with."""

import ast
import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from service.cli.main import run
from service.client import AsyncClient, Client
from service.client.errors import ApiProblem
from service.client.finetunings import Finetuning
from service.client.flows import to_json
from service.core.settings import Settings
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import environment, process, running, settings_for, wait_until
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
    unknown = there("models", "import", "nowhere")
    assert (unknown.returncode, "there are timm, open_clip" in unknown.stderr) == (4, True), unknown.stderr
    assert "in no quarantine" in there("models", "release", good).stdout
    assert there("models", "release", "nobody").returncode == 4
    assert there("models", "ls", "--input-size", "0").returncode == 3
    assert there("models", "ls", "--limit", "0").returncode == 2
    assert there("rankings", "rm", view["id"]).returncode == 0
    assert there("rankings", "show", view["id"]).returncode == 4
    bad = tmp_path / "bad.zip"
    bad.write_bytes(zipped({"a/1.png": b"no image", "b/1.png": b"none"}))
    assert there("datasets", "add", str(bad)).returncode == 3


def test_a_webhook_is_registered_with_the_service_and_not_with_its_address(there: Callable[..., Finished]) -> None:
    made = there("webhooks", "add", "https://hooks.example.com/zoo", "--event", "ranking.completed")
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("whsec_")
    (hook,) = json.loads(there("webhooks", "ls", "--json").stdout)["items"]
    assert hook["url"] == "https://hooks.example.com/zoo"
    assert hook["events"] == ["ranking.completed"]
    assert there("webhooks", "rm", hook["id"]).returncode == 0


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


PAGE = (Path(__file__).parents[2] / "docs" / "pipelines.md").read_text()


def _block(opening: str, /) -> str:
    found = re.search(rf"^```{re.escape(opening)}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert found is not None, opening
    return found[1]


def test_the_gate_of_the_page_lets_the_top_group_pass_and_nothing_else(
    served: tuple[str, Settings], tmp_path: Path, tiny_zoo: TinyZoo
) -> None:
    (tmp_path / "gate.py").write_text(_block("python title=gate.py"))
    archive = tmp_path / "gated.zip"
    archive.write_bytes(zipped(class_folders()))
    good, wrong = tiny_zoo.names[0], tiny_zoo.wrong.name

    def gate(wanted: str, candidates: str, *, data: Path = archive, url: str = served[0]) -> tuple[int, str]:
        variables = environment(served[1]) | {"ZOOSCOUT_URL": url}
        command = [sys.executable, str(tmp_path / "gate.py"), str(data), wanted, candidates]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120, check=False)
        assert done.stderr == ""
        return done.returncode, done.stdout

    assert gate(good, "tiny_*") == (0, f"{good} is on top, alone.\n")
    status, said = gate(wrong, "tiny_*")
    assert status == 1
    assert said.endswith(f"On top: {good}.\n")
    assert gate("nobody", "tiny_*")[0] == 4
    bad = tmp_path / "bad.zip"
    bad.write_bytes(zipped({"a/1.png": b"no image", "b/1.png": b"none"}))
    assert gate(good, "tiny_*", data=bad)[0] == 3
    assert gate(good, "tiny_*", url="http://127.0.0.1:9")[0] == 7


def test_the_workflow_and_the_dag_of_the_page_use_what_there_is() -> None:
    steps = yaml.safe_load(_block("yaml"))["jobs"]["gate"]["steps"]
    [asked] = [step["run"] for step in steps if "gate.py" in step.get("run", "")]
    subprocess.run(["bash", "-n", "-c", asked], check=True)
    called = {
        node.attr
        for node in ast.walk(ast.parse(_block("python title=dag.py")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "client"
    }
    assert called == {"start_rank", "ranking"}
    assert all(hasattr(Client, name) for name in called)


def test_a_question_to_a_service_does_not_wait_for_what_only_the_service_needs() -> None:
    asked = "import sys; from service.cli.main import command_line; command_line(['models', 'ls']); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "service.client" in loaded
    assert loaded & {"service.cli.embedded", "service.api", "sqlalchemy", "alembic", "fastapi", "numpy"} == set()


def test_an_interrupted_ranking_goes_on_and_the_message_says_how_to_follow_it(
    served: tuple[str, Settings], tmp_path: Path, tiny_zoo: TinyZoo
) -> None:
    url, settings = served
    archive = tmp_path / "interrupted.zip"
    archive.write_bytes(zipped(class_folders(each=60, seed=3)))
    command = [sys.executable, "-m", "service.cli", "rank", str(archive), "-m", tiny_zoo.names[0], "--url", url]
    child = subprocess.Popen(command, env=environment(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with Client(url) as client:

        def begun() -> list[str]:  # the command has long heard that the ranking is accepted
            found = client.rankings().items
            return [r.id for r in found if r.dataset.name == archive.name and r.state != "queued"]

        wait_until(begun, seconds=120, why="the ranking begins")
        [ident] = begun()
        child.send_signal(signal.SIGINT)
        said, complaint = child.communicate(timeout=60)
        assert (child.returncode, said) == (130, b""), complaint
        assert f"zooscout rankings follow {ident} --url {url}" in complaint.decode()
        assert client.wait_for_ranking(ident, timeout_seconds=120).state == "done"


def test_outcomes_are_kept_at_the_service(
    served: tuple[str, Settings], there: Callable[..., Finished], tmp_path: Path
) -> None:
    added = json.loads(there("outcomes", "add", "pets", "some.model", "0.8", "--n-test", "50", "--json").stdout)
    assert (added["added"], added["unknown_models"]) == (1, ["some.model"])
    (tmp_path / "in.csv").write_text("dataset,model,accuracy\npets,some.model,0.9\npets,other.model,0.7\n")
    assert "2 added" in there("outcomes", "import", "in.csv").stdout
    refused = there("outcomes", "import", "missing.csv")
    assert (refused.returncode, "missing.csv" in refused.stderr) == (4, True)
    there("outcomes", "export", "out.csv", "--history")
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[1].startswith("pets,some.model,0.8,50")
    assert sorted(line.split(",")[1:3] for line in lines[2:]) == [["other.model", "0.7"], ["some.model", "0.9"]]
    url, _ = served
    listed = json.loads(there("outcomes", "ls", "--model", "some.model", "--json").stdout)["items"]

    async def looked() -> tuple[object, object]:
        async with AsyncClient(url) as client:
            page = await client.outcomes(model="some.model")
            return page, await client.outcome(page.items[0].id)

    page, one = asyncio.run(looked())
    with Client(url) as client:
        assert client.outcomes(model="some.model") == page
    assert to_json(one) == listed[0]


def test_a_service_fine_tunes(there: Callable[..., Finished], tmp_path: Path, tiny_zoo: TinyZoo) -> None:
    (tmp_path / "oaks.zip").write_bytes(zipped(class_folders(each=10, seed=5)))
    assert there("datasets", "add", "oaks.zip", "--name", "oaks").returncode == 0
    done = there("finetune", "oaks", "tiny_*", "--recipe", "fast", "--json")
    assert done.returncode == 6, done.stderr  # one of them has weights that do not fit
    answer = json.loads(done.stdout)
    assert answer["train"] > answer["test"] > 0
    measured, failed = answer["results"]
    assert measured["model"] == tiny_zoo.names[0]
    assert failed["error"]
    shown = there("finetune", "oaks", tiny_zoo.names[0], "--recipe", "fast")
    assert shown.returncode == 0, shown.stderr
    assert "measured before" in shown.stdout
    assert measured["outcome_id"] in there("outcomes", "ls", "--dataset", "oaks", "--json").stdout
    assert there("finetune", "oaks", "nothing*").returncode == 4
    assert there("finetune", "nowhere", tiny_zoo.names[0]).returncode == 4


def test_both_clients_fine_tune(served: tuple[str, Settings], tiny_zoo: TinyZoo, tmp_path: Path) -> None:
    path = tmp_path / "firs.zip"
    path.write_bytes(zipped(class_folders(each=10, seed=6)))

    async def again(dataset: str) -> Finetuning:
        async with AsyncClient(served[0]) as client:
            found = await client.finetune(dataset, tiny_zoo.names[:1], recipe="fast", timeout_seconds=120)
            await client.remove_finetuning(found.id)
            return found

    with Client(served[0]) as client:
        dataset = client.wait_for_dataset(client.upload_dataset(path).id).id
        first = client.finetune(dataset, tiny_zoo.names[:1], recipe="fast", timeout_seconds=120)
        second = asyncio.run(again(dataset))
        with pytest.raises(ApiProblem):
            client.finetuning(second.id)
    [measured], [known] = first.results, second.results
    assert (first.ended, measured.measured_before, known.measured_before) == (True, False, True)
    assert known.outcome_id == measured.outcome_id
