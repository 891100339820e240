"""Root of the service's error tree. It knows nothing of HTTP: `service.api.problems` maps each leaf to a problem."""


class ServiceError(Exception):
    """Base of everything that a service domain raises; the message says what is wrong and what to do."""


class NotFound(ServiceError):
    def __init__(self, kind: str, ident: str) -> None:
        super().__init__(f"There is no {kind} '{ident}'.")


class Conflict(ServiceError):
    """The request contradicts what is stored."""


class InvalidRequest(ServiceError):
    """The request is well-formed and still cannot be carried out as it stands."""


class PreconditionFailed(ServiceError):
    """What the request names by If-Match is not what is stored."""


class LeaseLost(ServiceError):
    """Another worker holds the task now: this one's result is dropped."""


class Cancelled(ServiceError):
    """The work was told to stop."""


class SchemaOutdated(ServiceError):
    """The database is at another migration than this code."""


class DatabaseUnavailable(ServiceError):
    """The database is away, busy or full: the same request may succeed later."""


class DiskFull(ServiceError):
    """There is no room for what came: the same request may succeed once there is."""
