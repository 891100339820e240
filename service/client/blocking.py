"""The client that blocks."""

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self, TypeVar, assert_never, cast

import httpx
from tenacity import Retrying

from service.client.endpoints import Endpoints
from service.client.errors import raise_if_error
from service.client.events import AGAIN_SECONDS, Events
from service.client.flows import CHUNK_BYTES, Call, Download, Flow, Sleep, Upload
from service.client.results import RankingStatus
from service.client.retries import policy

T = TypeVar("T")


class Client(Endpoints):
    """A connection to one zooscout service.

    Where the connection breaks, a request is sent again, up to four times in all: each POST bears an Idempotency-Key,
    so that none is carried out twice. A service that is busy (429, 503) is asked again when it says, for up to
    `patience_seconds`.

    Example:
        with Client("http://127.0.0.1:8750") as client:
            ranking = client.rank("flowers.zip", models="resnet*")
            print(ranking.top)
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_seconds: float = 60.0,
        patience_seconds: float = 120.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else None
        self._http = httpx.Client(
            base_url=url.rstrip("/"), timeout=timeout_seconds, headers=headers, transport=transport
        )
        self._patience_seconds = patience_seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def follow(self, ranking: str) -> Iterator[RankingStatus]:
        """The ranking's state whenever it changes, as the service sends it, until it has ended.

        A connection that breaks is taken up again where it was.
        """
        events = Events(ranking)
        while not events.ended:
            try:
                with self._http.stream("GET", events.path, headers=events.headers) as answer:
                    if answer.is_error:
                        answer.read()
                        raise_if_error(answer)
                    for line in answer.iter_lines():
                        if (status := events.read(line)) is not None:
                            yield status
            except httpx.TransportError:
                time.sleep(AGAIN_SECONDS)
                self.ranking(ranking)  # raises when it is the service that is gone, not only the stream

    def _drive(self, flow: Flow[T]) -> T:
        try:
            operation = next(flow)
            while True:
                try:
                    found = self._perform(operation)
                except Exception as error:
                    operation = flow.throw(error)
                else:
                    operation = flow.send(found)
        except StopIteration as ended:
            return cast(T, ended.value)
        finally:
            flow.close()

    def _perform(self, operation: Call | Download | Sleep) -> Any:
        match operation:
            case Sleep(seconds):
                time.sleep(seconds)
                return None
            case Download():
                return self._download(operation)
            case Call():
                return self._call(operation)
            case _:
                assert_never(operation)

    def _call(self, call: Call) -> Any:
        headers = call.sent_headers()
        again = Retrying(**policy(call.method, patience_seconds=self._patience_seconds))
        answer: httpx.Response = again(
            lambda: self._http.request(
                call.method,
                call.path,
                params=call.params,
                json=call.json,
                headers=headers,
                content=_chunks(call.upload) if call.upload else None,
            )
        )
        raise_if_error(answer)
        return answer.json() if answer.content else None

    def _download(self, wanted: Download) -> int:
        with self._http.stream("GET", wanted.path, params=wanted.params) as answer:
            if answer.is_error:
                answer.read()
                raise_if_error(answer)
            with wanted.target.open("wb") as file:
                return sum(file.write(data) for data in answer.iter_raw())


def _chunks(upload: Upload, /) -> Iterator[bytes]:
    size, sent = upload.path.stat().st_size, 0
    with upload.path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
            sent += len(chunk)
            if upload.progress is not None:
                upload.progress(sent, size)
