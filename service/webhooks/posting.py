"""One signed POST to an address that was checked: no redirect, no proxy, a bound on time and on what is read."""

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

import httpx

from service.core.errors import InvalidRequest
from service.webhooks.addresses import NOT_PUBLIC, Address, checked_url, is_public

EXCERPT_BYTES = 500
MAX_ADDRESSES = 3
Resolve = Callable[[str, int], list[Address]]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int | None
    error: str | None
    excerpt: str | None
    milliseconds: int


def resolve(host: str, port: int, /) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    /,
    *,
    timeout_seconds: float,
    allow_private: bool,
    lookup: Resolve = resolve,
    trust: ssl.SSLContext | bool = True,
) -> Answer:
    """The name is looked up once, and what is connected to is the address that was checked."""
    started = time.monotonic()
    status, error, excerpt = None, None, None
    try:
        parts = checked_url(url, allow_private=allow_private)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        found = lookup(host, port)
        allowed = [address for address in found if allow_private or is_public(address)]
        if not allowed:
            leads_to = ", ".join(map(str, found[:MAX_ADDRESSES])) or "nothing"
            raise InvalidRequest(f"'{host}' leads to {leads_to}, which {NOT_PUBLIC}")
        status, excerpt = asyncio.run(
            _first_that_connects(
                httpx.URL(url), allowed[:MAX_ADDRESSES], body, headers, timeout_seconds=timeout_seconds, trust=trust
            )
        )
        if 300 <= status < 400:
            error = "Redirects are not followed: register the address that it leads to."
    except InvalidRequest as refusal:
        error = str(refusal)
    except TimeoutError:
        error = f"There was no answer within {timeout_seconds:g} seconds."
    except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as failure:
        error = f"{type(failure).__name__}: {failure}"[:EXCERPT_BYTES]
    return Answer(status, error, excerpt, round((time.monotonic() - started) * 1000))


async def _first_that_connects(
    url: httpx.URL, addresses: list[Address], body: bytes, headers: Mapping[str, str], /, **how: Any
) -> tuple[int, str | None]:
    async with asyncio.timeout(how["timeout_seconds"]):  # of all of it: a receiver that drips is cut off as well
        for address in addresses[:-1]:
            try:
                return await _send(url, address, body, headers, **how)
            except httpx.ConnectError:
                continue
        return await _send(url, addresses[-1], body, headers, **how)


async def _send(
    url: httpx.URL,
    address: Address,
    body: bytes,
    headers: Mapping[str, str],
    /,
    *,
    timeout_seconds: float,
    trust: ssl.SSLContext | bool,
) -> tuple[int, str | None]:
    sent = {
        "Host": url.netloc.decode("ascii"),
        "Content-Type": "application/json",
        "User-Agent": "zooscout-webhooks",
        "Accept-Encoding": "identity",
        **headers,
    }
    # trust_env: a proxy would look the name up again; follow_redirects is off unless asked for.
    async with httpx.AsyncClient(trust_env=False, timeout=timeout_seconds, verify=trust) as client:
        request = client.build_request(
            "POST", url.copy_with(host=str(address)), content=body, headers=sent, extensions={"sni_hostname": url.host}
        )
        answer = await client.send(request, stream=True)
        try:
            read = bytearray()
            async for chunk in answer.aiter_raw():
                read += chunk
                if len(read) >= EXCERPT_BYTES:
                    break
        finally:
            await answer.aclose()
    text = bytes(read[:EXCERPT_BYTES]).decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
    return answer.status_code, text or None
