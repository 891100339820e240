"""Who may not do what."""

from service.core.errors import ServiceError


class Unauthorized(ServiceError):
    """No key, or none that is valid; the message does not say which of the reasons it is."""


class Forbidden(ServiceError):
    """The key is valid and its scope does not reach that far."""


class TooManyRequests(ServiceError):
    """The key asks more often than it may."""


class QuotaExceeded(ServiceError):
    """The project would have more stored than it may."""


class TooMuchQueued(ServiceError):
    """The project has as much work waiting as it may."""
