"""Why a key does not bring the first answer back."""

from service.core.errors import ServiceError


class KeyReused(ServiceError):
    """The key came with another request before."""


class ShownOnce(ServiceError):
    """The request was carried out, and its answer held a secret that is kept nowhere."""
