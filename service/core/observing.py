"""What every process of the service does first: its log, and its traces where they are asked for."""

from service.core.logging import configure_logging
from service.core.settings import Settings
from service.core.tracing import start_tracing


def observe(settings: Settings, /, *, role: str) -> None:
    configure_logging(level=settings.log_level, fmt=settings.log_format)
    start_tracing(settings, role=role)
