"""The Python client: the REST API with types, uploads and waiting. Needs httpx, not torch."""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

import httpx
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from service.datasets.names import Split
from service.datasets.schemas import DatasetPage, DatasetView, ReferenceView, VersionCreate
from service.inspections.schemas import InspectionView, NeighboursView
from service.models.schemas import ImportAccepted, ModelCreate, ModelFilter, ModelPage, ModelView
from service.rankings.schemas import RankingCreate, RankingPage, RankingStatus, RankingView

T = TypeVar("T")
CHUNK_BYTES = 1 << 20
POLL_SECONDS = 0.3
ATTEMPTS = 4
# The request may have been carried out although its answer was lost.
_LOST = (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError)


class ApiProblem(Exception):
    """The service refused: `problem` is its RFC 9457 answer."""

    def __init__(self, problem: Mapping[str, Any]) -> None:
        self.problem = dict(problem)
        self.status = int(problem.get("status", 0))
        self.type = str(problem.get("type", "about:blank"))
        super().__init__(f"{problem.get('title')}: {problem.get('detail')}")


class WaitTimeout(Exception):
    """The work was not done within the time given; it goes on in the service."""


def _chunks(path: Path, progress: Callable[[int, int], None] | None = None, /) -> Iterator[bytes]:
    size, sent = path.stat().st_size, 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
            sent += len(chunk)
            if progress is not None:
                progress(sent, size)


def _raise_if_error(answer: httpx.Response, /) -> None:
    if not answer.is_error:
        return
    if answer.headers.get("content-type", "").startswith("application/problem+json"):
        raise ApiProblem(answer.json())
    raise ApiProblem({"title": answer.reason_phrase, "status": answer.status_code, "detail": answer.text[:500]})


class Client:
    """A connection to one zooscout service.

    Where the connection breaks, a request is sent again, up to four times in all: each POST bears an Idempotency-Key,
    so that none is carried out twice.

    Example:
        with Client("http://127.0.0.1:8750") as client:
            ranking = client.rank("flowers.zip", models=ModelFilter(max_params=30_000_000))
            print(ranking.entries[0].model)
    """

    def __init__(self, url: str, *, key: str | None = None, timeout_seconds: float = 60.0) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else None
        self._http = httpx.Client(base_url=url.rstrip("/"), timeout=timeout_seconds, headers=headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def add_model(self, model: ModelCreate) -> ModelView:
        return ModelView.model_validate(self._call("POST", "/v1/models", json=model.model_dump(exclude_none=True)))

    def wait_for_model(self, model: str, *, timeout_seconds: float | None = None) -> ModelView:
        """Waits until a worker has proved the model's weights; its state is then `ready` or `failed`."""
        return self._wait(lambda: self.model(model), lambda m: m.state != "unresolved", timeout_seconds)

    def model(self, model: str) -> ModelView:
        return ModelView.model_validate(self._call("GET", f"/v1/models/{model}"))

    def models(
        self, wanted: ModelFilter | None = None, *, limit: int = 100, cursor: str | None = None, sort: str = "name"
    ) -> ModelPage:
        query = (wanted or ModelFilter()).model_dump(exclude_none=True, exclude={"tags"})
        query["tag"] = [f"{k}={v}" for k, v in (wanted.tags if wanted else {}).items()]
        query |= {"limit": limit, "sort": sort} | ({"cursor": cursor} if cursor else {})
        return ModelPage.model_validate(self._call("GET", "/v1/models", params=query))

    def import_models(
        self, source: str, *, name_glob: str = "*", timeout_seconds: float | None = None
    ) -> ImportAccepted:
        accepted = ImportAccepted.model_validate(
            self._call("POST", "/v1/models/import", json={"source": source, "filter": name_glob})
        )
        return self._wait(
            lambda: ImportAccepted.model_validate(self._call("GET", f"/v1/models/import/{accepted.task_id}")),
            lambda found: found.state in {"done", "failed", "cancelled"},
            timeout_seconds,
        )

    def remove_model(self, model: str) -> None:
        self._call("DELETE", f"/v1/models/{model}")

    def upload_dataset(
        self, path: str | Path, *, name: str | None = None, progress: Callable[[int, int], None] | None = None
    ) -> DatasetView:
        """Streams an archive or a Parquet file; `progress` hears (bytes sent, bytes in all)."""
        path = Path(path)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(path.stat().st_size)}
        params = {"name": name or path.name}
        return DatasetView.model_validate(
            self._call("POST", "/v1/datasets", body=lambda: _chunks(path, progress), headers=headers, params=params)
        )

    def make_version(self, parent: str, changes: VersionCreate | str | Path, *, name: str | None = None) -> DatasetView:
        """A dataset made from a sealed one: `changes`, or an archive whose images are added."""
        path = f"/v1/datasets/{parent}/versions"
        if isinstance(changes, VersionCreate):
            body = changes.model_copy(update={"name": name or changes.name})
            return DatasetView.model_validate(self._call("POST", path, json=body.model_dump(exclude_none=True)))
        archive = Path(changes)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(archive.stat().st_size)}
        params = {"name": name} if name else {}
        return DatasetView.model_validate(
            self._call("POST", path, body=lambda: _chunks(archive), headers=headers, params=params)
        )

    def inspect(self, dataset: str, model: str, *, timeout_seconds: float | None = None) -> InspectionView:
        """Near-copies, leaks between splits and likely label errors by one model's embeddings; waits for the result."""
        asked = InspectionView.model_validate(
            self._call("POST", f"/v1/datasets/{dataset}/inspections", json={"model": model})
        )
        return self._wait(
            lambda: InspectionView.model_validate(self._call("GET", f"/v1/inspections/{asked.id}")),
            lambda found: found.state in {"done", "failed"},
            timeout_seconds,
        )

    def neighbours(self, dataset: str, image: str, *, model: str, k: int = 10) -> NeighboursView:
        """The images nearest to one, named by path or content hash, among those that the model has embedded."""
        params = {"image": image, "model": model, "k": k}
        return NeighboursView.model_validate(self._call("GET", f"/v1/datasets/{dataset}/neighbours", params=params))

    def wait_for_dataset(self, dataset: str, *, timeout_seconds: float | None = None) -> DatasetView:
        """Waits until the dataset is sealed.

        Raises:
            ApiProblem: It was refused; the problem says what and where.
        """
        view = self._wait(lambda: self.dataset(dataset), lambda d: d.state != "checking", timeout_seconds)
        if view.state == "refused":
            raise ApiProblem(view.problem or {"title": "The dataset was refused"})
        return view

    def dataset(self, dataset: str) -> DatasetView:
        return DatasetView.model_validate(self._call("GET", f"/v1/datasets/{dataset}"))

    def datasets(self, *, limit: int = 50, cursor: str | None = None) -> DatasetPage:
        query: dict[str, Any] = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        return DatasetPage.model_validate(self._call("GET", "/v1/datasets", params=query))

    def remove_dataset(self, dataset: str, *, purge: bool = False) -> None:
        self._call("DELETE", f"/v1/datasets/{dataset}", params={"purge": purge})

    def reference(self) -> ReferenceView:
        """Which dataset is the reference set.

        Raises:
            ApiProblem: None is; its type is `/problems/no-reference-set`.
        """
        return ReferenceView.model_validate(self._call("GET", "/v1/reference"))

    def set_reference(self, dataset: str) -> ReferenceView:
        return ReferenceView.model_validate(self._call("PUT", "/v1/reference", json={"dataset": dataset}))

    def clear_reference(self) -> None:
        self._call("DELETE", "/v1/reference")

    def export_embeddings(
        self,
        dataset: str,
        model: str,
        path: str | Path,
        *,
        fmt: Literal["parquet", "npz"] = "parquet",
        split: Split | None = None,
    ) -> None:
        """Writes content hash, path, label, split and features of every image to a file."""
        query = {"model": model, "format": fmt} | ({"split": split} if split else {})
        with self._http.stream("GET", f"/v1/datasets/{dataset}/embeddings", params=query) as answer:
            if answer.is_error:
                answer.read()
                _raise_if_error(answer)
            with Path(path).open("wb") as file:
                for data in answer.iter_raw():
                    file.write(data)

    def create_ranking(self, request: RankingCreate) -> RankingView:
        body = request.model_dump(mode="json", exclude_none=True)
        return RankingView.model_validate(self._call("POST", "/v1/rankings", json=body))

    def ranking(self, ranking: str) -> RankingView:
        return RankingView.model_validate(self._call("GET", f"/v1/rankings/{ranking}"))

    def rankings(self, *, limit: int = 50, cursor: str | None = None) -> RankingPage:
        query: dict[str, Any] = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        return RankingPage.model_validate(self._call("GET", "/v1/rankings", params=query))

    def follow(self, ranking: str) -> Iterator[RankingStatus]:
        """The ranking's state whenever it changes, as the service sends it, until it has ended.

        A connection that breaks is taken up again where it was.
        """
        last: str | None = None
        while True:
            headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
            try:
                with self._http.stream("GET", f"/v1/rankings/{ranking}/events", headers=headers) as answer:
                    if answer.is_error:
                        answer.read()
                        _raise_if_error(answer)
                    for line in answer.iter_lines():
                        field, _, value = line.partition(": ")
                        if field == "id":
                            last = value
                        elif field == "data":
                            status = RankingStatus.model_validate_json(value)
                            yield status
                            if status.state in {"done", "failed", "cancelled"}:
                                return
            except httpx.TransportError:
                time.sleep(POLL_SECONDS)
                self.ranking(ranking)  # raises when it is the service that is gone, not only the stream

    def wait_for_ranking(
        self,
        ranking: str,
        *,
        watch: Callable[[RankingView], None] | None = None,
        timeout_seconds: float | None = None,
    ) -> RankingView:
        """Waits until the ranking has ended; `watch` hears every state on the way."""

        def look() -> RankingView:
            view = self.ranking(ranking)
            if watch is not None:
                watch(view)
            return view

        return self._wait(look, lambda r: r.state in {"done", "failed", "cancelled"}, timeout_seconds)

    def remove_ranking(self, ranking: str) -> None:
        self._call("DELETE", f"/v1/rankings/{ranking}")

    def rank(
        self,
        path: str | Path,
        *,
        models: ModelFilter | Sequence[str],
        estimators: Sequence[str] | None = None,
        watch: Callable[[RankingView], None] | None = None,
        timeout_seconds: float | None = None,
    ) -> RankingView:
        """Upload, rank, wait: the whole job in one call."""
        dataset = self.wait_for_dataset(self.upload_dataset(path).id, timeout_seconds=timeout_seconds)
        request = RankingCreate(
            dataset=dataset.id,
            models=models if isinstance(models, ModelFilter) else list(models),
            estimators=list(estimators) if estimators is not None else None,
        )
        return self.wait_for_ranking(self.create_ranking(request).id, watch=watch, timeout_seconds=timeout_seconds)

    def _call(
        self,
        method: str,
        path: str,
        *,
        body: Callable[[], Iterator[bytes]] | None = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Any:
        sent = dict(headers or {})
        if method == "POST":
            sent["Idempotency-Key"] = uuid.uuid4().hex
        again = Retrying(
            # What was removed although the answer was lost would be answered with 404.
            retry=retry_if_exception_type(httpx.ConnectError if method == "DELETE" else _LOST),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.2, max=2.0),
            reraise=True,
        )
        answer = again(
            lambda: self._http.request(method, path, headers=sent, content=body() if body else None, **options)
        )
        _raise_if_error(answer)
        return answer.json() if answer.content else None

    def _wait(self, look: Callable[[], T], ended: Callable[[T], bool], timeout_seconds: float | None) -> T:
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while True:
            found = look()
            if ended(found):
                return found
            if deadline is not None and time.monotonic() > deadline:
                raise WaitTimeout(f"Not done after {timeout_seconds:g} seconds; it goes on in the service.")
            time.sleep(POLL_SECONDS)
