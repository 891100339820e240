"""The Python client: the REST API with types, uploads and waiting, blocking or with asyncio. Needs httpx, not torch."""

from service.client.asynchronous import AsyncClient
from service.client.blocking import Client
from service.client.errors import ApiProblem, MissingExtra, WaitTimeout

__all__ = ["ApiProblem", "AsyncClient", "Client", "MissingExtra", "WaitTimeout"]
