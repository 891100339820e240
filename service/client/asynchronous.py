"""The client for an event loop."""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Self, TypeVar, assert_never, cast

import httpx
from tenacity import AsyncRetrying

from service.client.endpoints import Endpoints
from service.client.errors import raise_if_error
from service.client.events import AGAIN_SECONDS, Events
from service.client.flows import CHUNK_BYTES, Call, Download, Flow, Sleep, Upload
from service.client.results import RankingStatus
from service.client.retries import policy

T = TypeVar("T")


class AsyncClient(Endpoints):
    """As `Client`, with the same methods to be awaited.

    Example:
        async with AsyncClient("http://127.0.0.1:8750") as client:
            ranking = await client.rank("flowers.zip", models="resnet*")
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout_seconds: float = 60.0,
        patience_seconds: float = 120.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else None
        self._http = httpx.AsyncClient(
            base_url=url.rstrip("/"), timeout=timeout_seconds, headers=headers, transport=transport
        )
        self._patience_seconds = patience_seconds

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def follow(self, ranking: str) -> AsyncIterator[RankingStatus]:
        """As `Client.follow`."""
        events = Events(ranking)
        while not events.ended:
            try:
                async with self._http.stream("GET", events.path, headers=events.headers) as answer:
                    if answer.is_error:
                        await answer.aread()
                        raise_if_error(answer)
                    async for line in answer.aiter_lines():
                        if (status := events.read(line)) is not None:
                            yield status
            except httpx.TransportError:
                await asyncio.sleep(AGAIN_SECONDS)
                await self.ranking(ranking)

    async def _drive(self, flow: Flow[T]) -> T:
        try:
            operation = next(flow)
            while True:
                try:
                    found = await self._perform(operation)
                except Exception as error:
                    operation = flow.throw(error)
                else:
                    operation = flow.send(found)
        except StopIteration as ended:
            return cast(T, ended.value)
        finally:
            flow.close()

    async def _perform(self, operation: Call | Download | Sleep) -> Any:
        match operation:
            case Sleep(seconds):
                await asyncio.sleep(seconds)
                return None
            case Download():
                return await self._download(operation)
            case Call():
                return await self._call(operation)
            case _:
                assert_never(operation)

    async def _call(self, call: Call) -> Any:
        headers = call.sent_headers()

        async def send() -> httpx.Response:
            return await self._http.request(
                call.method,
                call.path,
                params=call.params,
                json=call.json,
                headers=headers,
                content=_chunks(call.upload) if call.upload else None,
            )

        again = AsyncRetrying(**policy(call.method, patience_seconds=self._patience_seconds))
        answer: httpx.Response = await again(send)
        raise_if_error(answer)
        return answer.json() if answer.content else None

    async def _download(self, wanted: Download) -> int:
        async with self._http.stream("GET", wanted.path, params=wanted.params) as answer:
            if answer.is_error:
                await answer.aread()
                raise_if_error(answer)
            size = 0
            with wanted.target.open("wb") as file:
                async for data in answer.aiter_raw():
                    size += await asyncio.to_thread(file.write, data)
            return size


async def _chunks(upload: Upload, /) -> AsyncIterator[bytes]:
    size, sent = upload.path.stat().st_size, 0
    with upload.path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk
            sent += len(chunk)
            if upload.progress is not None:
                upload.progress(sent, size)
