"""Who may not do what."""

from service.core.errors import ServiceError


class Unauthorized(ServiceError):
    """No key, or none that is valid; the message does not say which of the reasons it is."""


class Forbidden(ServiceError):
    """The key is valid and its scope does not reach that far."""
