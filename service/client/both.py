"""A flow as a method of either client."""

import functools
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from service.client.flows import Flow

if TYPE_CHECKING:
    from service.client.asynchronous import AsyncClient
    from service.client.blocking import Client

P = ParamSpec("P")
T = TypeVar("T")


class Both(Generic[P, T]):
    """A flow as a method: on `Client` it returns its result, on `AsyncClient` it is awaited for it."""

    def __init__(self, flow: Callable[P, Flow[T]]) -> None:
        self._flow = flow
        self.__doc__ = flow.__doc__

    @overload
    def __get__(self, client: "Client", owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: "AsyncClient", owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    @overload
    def __get__(self, client: None, owner: type) -> "Both[P, T]": ...
    def __get__(self, client: Any, owner: type) -> Any:
        if client is None:
            return self

        @functools.wraps(self._flow)
        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client._drive(self._flow(*args, **kwargs))

        return call
