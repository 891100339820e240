"""Clients that go on asking until they are answered, and write down every answer."""

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from service.client import ApiProblem, Client
from service.datasets.schemas import VersionCreate
from service.models.schemas import ModelCreate
from service.rankings.schemas import RankingCreate
from tests.helpers.pictures import CLASSES, class_folders, zipped
from tests.helpers.zoo import TinyZoo
from tests.soak.plan import CROPS, IMAGES_EACH, PANELS, Step
from tests.soak.town import Note

T = TypeVar("T")
PASSING = frozenset({429, 503})
INPUT_SIZE = 96  # for tasks that last a second or more
OPEN_RANKINGS = 3  # of a client: it waits for the oldest before it asks for another
TIMEOUT_SECONDS = 15.0
PATIENCE_SECONDS = 300.0


@dataclass
class Ledger:
    """What the service acknowledged, by the name of the step."""

    datasets: dict[str, str] = field(default_factory=dict)
    rankings: dict[str, str] = field(default_factory=dict)
    outcomes: dict[str, float] = field(default_factory=dict)
    removed: dict[str, str] = field(default_factory=dict)  # rankings and datasets
    unanswered: int = 0  # rankings that may have been made although nobody heard of it
    findings: list[str] = field(default_factory=list)  # answers that no fault excuses
    lock: threading.Lock = field(default_factory=threading.Lock)

    def find(self, what: str) -> None:
        with self.lock:
            self.findings.append(what)


def archive_of(step: Step, folder: Path) -> Path:
    """Pictures of its own; of a shared one most are another client's as well."""
    files = class_folders(each=IMAGES_EACH, seed=step.seed)
    if step.shared:
        files |= class_folders(each=1, prefix="own/", seed=500 + step.client * 100 + step.number)
        files = {
            name.replace("own/", "").replace("/0.png", "/own.png") if "own/" in name else name: data
            for name, data in files.items()
        }
    path = folder / f"{step.name}.zip"
    path.write_bytes(zipped(files))
    return path


def add_models(url: str, zoo: TinyZoo) -> list[str]:
    """Several of each architecture, which see the images cropped differently."""
    with Client(url) as client:
        made = [
            client.add_model(
                ModelCreate(**model.request(name=f"{model.name}.{crop}", crop_pct=1 - crop / 50, input_size=INPUT_SIZE))
            )
            for model in zoo.good
            for crop in range(CROPS)
        ]
        return [client.wait_for_model(model.name, timeout_seconds=PATIENCE_SECONDS).name for model in made]


class Caller(threading.Thread):
    """One client: carries out its steps in order."""

    def __init__(
        self, url: str, steps: Sequence[Step], ledger: Ledger, note: Note, folder: Path, *, seconds: float
    ) -> None:
        super().__init__(name=f"client-{steps[0].client}", daemon=True)
        self._url, self._steps, self._ledger, self._note, self._folder = url, steps, ledger, note, folder
        self._seconds = seconds  # over which the steps are spread; 0: at once
        self._datasets: dict[int, tuple[str, str]] = {}  # id and the step that made it
        self._open: list[str] = []
        self._made = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        started = time.monotonic()
        try:
            with Client(self._url, timeout_seconds=TIMEOUT_SECONDS) as client:
                for number, step in enumerate(self._steps):
                    if self._seconds:
                        moment = started + self._seconds * number / len(self._steps) + step.pause
                        time.sleep(max(0.0, moment - time.monotonic()))
                    self._carry_out(client, step)
        except BaseException as error:  # handed to the thread that waits
            self.error = error

    def _carry_out(self, client: Client, step: Step) -> None:
        match step.kind:
            case "upload":
                path = archive_of(step, self._folder)
                found = self._answered(step, lambda: client.upload_dataset(path, name=f"set {step.name}"))
                self._made_dataset(step, found.id)
            case "version":
                parent, _ = self._datasets[step.dataset]
                self._answered(step, lambda: client.wait_for_dataset(parent, timeout_seconds=PATIENCE_SECONDS))
                changes = VersionCreate(
                    remove=[f"{CLASSES[0]}/{i}.png" for i in range(step.seed)], name=f"set {step.name}"
                )
                made = self._answered(step, lambda: client.make_version(parent, changes))
                self._made_dataset(step, made.id)
            case "rank":
                while len(self._open) >= OPEN_RANKINGS:
                    self._followed(client, step, self._open.pop(0))
                self._open.append(self._ranking(client, step))
                self._outcome(step)
            case "cancel":
                ranking = self._ranking(client, step)
                time.sleep(step.after)
                self._removed(step, ranking, lambda: client.remove_ranking(ranking))
            case "discard":
                gone, made_by = self._datasets.pop(step.dataset)
                self._removed(step, gone, lambda: client.remove_dataset(gone, purge=True))
                with self._ledger.lock:
                    self._ledger.datasets.pop(made_by)

    def _made_dataset(self, step: Step, ident: str) -> None:
        self._datasets[self._made] = ident, step.name
        self._made += 1
        with self._ledger.lock:
            self._ledger.datasets[step.name] = ident

    def _ranking(self, client: Client, step: Step) -> str:
        dataset, _ = self._datasets[step.dataset]
        request = RankingCreate(dataset=dataset, models=list(step.models), estimators=PANELS[step.panel])
        if step.own_key:
            body = request.model_dump(mode="json", exclude_none=True)
            ident = self._answered(step, lambda: str(self._posted("rankings", body, step.name)["id"]))
            again = self._answered(step, lambda: str(self._posted("rankings", body, step.name)["id"]))
            if again != ident:
                self._ledger.find(f"{step.name}: one Idempotency-Key made {ident} and {again}")
        else:
            ident = self._answered(step, lambda: client.create_ranking(request).id, makes_ranking=True)
        with self._ledger.lock:
            self._ledger.rankings[step.name] = ident
        return ident

    def _outcome(self, step: Step) -> None:
        """Of the ranking's first model, whatever the number: that it is kept is what counts."""
        dataset, _ = self._datasets[step.dataset]
        accuracy = round(random.Random(step.name).random(), 6)
        body = {"dataset": dataset, "model": step.models[0], "accuracy": accuracy, "recipe": step.name}
        for _ in range(2):
            self._answered(step, lambda: self._posted("outcomes", body, step.name))
        with self._ledger.lock:
            self._ledger.outcomes[step.name] = accuracy

    def _posted(self, what: str, body: Mapping[str, Any], key: str) -> dict[str, Any]:
        answer = httpx.post(
            f"{self._url}/v1/{what}",
            json=body,
            headers={"Idempotency-Key": f"soak {what} {key}"},
            timeout=TIMEOUT_SECONDS,
        )
        if answer.is_error:
            raise ApiProblem(answer.json())
        return dict(answer.json())

    def _followed(self, client: Client, step: Step, ranking: str) -> None:
        def to_the_end() -> None:
            for _ in client.follow(ranking):
                pass

        self._answered(step, to_the_end)

    def _removed(self, step: Step, ident: str, remove: Callable[[], None]) -> None:
        def removed() -> None:
            try:
                remove()
            except ApiProblem as problem:
                if problem.status != 404:  # an earlier attempt, whose answer was lost
                    raise

        self._answered(step, removed)
        with self._ledger.lock:
            self._ledger.removed[step.name] = ident
            self._ledger.rankings.pop(step.name, None)

    def _answered(self, step: Step, ask: Callable[[], T], *, makes_ranking: bool = False) -> T:
        """Asks until the service answers; what no fault excuses is written down."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                found = ask()
            except (httpx.TransportError, ApiProblem) as error:
                excused = not isinstance(error, ApiProblem) or error.status in PASSING
                self._note(
                    "not answered", step=step.name, kind=step.kind, error=f"{type(error).__name__}: {error}"[:300]
                )
                if not excused:
                    self._ledger.find(f"{step.name} {step.kind}: {error}")
                with self._ledger.lock:
                    self._ledger.unanswered += makes_ranking
                if time.monotonic() > deadline or (
                    isinstance(error, ApiProblem) and 400 <= error.status < 500 and not excused
                ):
                    raise
                time.sleep(0.3)
            else:
                self._note("answered", step=step.name, kind=step.kind, got=getattr(found, "id", found))
                return found
