"""Exit statuses that a pipeline can branch on. docs/cli.md is their page."""

from enum import IntEnum

import httpx

from service.client import ApiProblem
from service.core.errors import ServiceError


class Exit(IntEnum):
    OK = 0
    FAILED = 1  # the work was done and came to nothing, or the service failed
    USAGE = 2
    BAD_INPUT = 3
    NOT_FOUND = 4
    REFUSED = 5  # no valid key, out of its scope, over a limit, or against what is stored
    SOME_FAILED = 6
    UNREACHABLE = 7
    INTERRUPTED = 130


def of_status(status: int, /) -> Exit:
    """What an HTTP status means here."""
    match status:
        case 404:
            return Exit.NOT_FOUND
        case 401 | 403 | 409 | 412 | 429:
            return Exit.REFUSED
        case 503:
            return Exit.UNREACHABLE
        case _:
            return Exit.BAD_INPUT if 400 <= status < 500 else Exit.FAILED


def of_error(error: ServiceError | ApiProblem | httpx.TransportError, /) -> Exit:
    match error:
        case ApiProblem():
            if error.type == "/problems/quota-exceeded":
                return Exit.REFUSED
            if error.type == "/problems/dataset-was-refused":  # before the ranking was asked for, or after
                return Exit.BAD_INPUT
            return of_status(error.status) if error.status else Exit.BAD_INPUT  # a dataset that a worker refused
        case ServiceError():
            from service.api.problems import kind_of  # with the web framework, which nothing else here needs

            return of_status(kind_of(error).status)
        case httpx.TransportError():
            return Exit.UNREACHABLE


class Interrupted(Exception):
    """Ctrl-C, with what to say about the work that goes on elsewhere."""
