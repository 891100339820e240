"""Structured logs on standard error."""

import logging
import sys

import structlog


def configure_logging(*, level: str, fmt: str) -> None:
    renderer = (
        structlog.processors.JSONRenderer()
        if fmt == "json" or (fmt == "auto" and not sys.stderr.isatty())
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, force=True)
    # The hub's client warns of each of its retries, twice; that the hub cannot be reached is said once, by the entry.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
