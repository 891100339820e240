"""Traces by OpenTelemetry, where the extra `otel` is installed and an endpoint is named; nothing at all elsewhere.

A request's trace goes on in its tasks: a task's row carries where it came from.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog

from service.core.errors import InvalidRequest
from service.core.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI
    from opentelemetry.sdk.trace import TracerProvider

STANDARD = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
SEND_MILLISECONDS = 1000  # what a killed process takes with it
UNTRACED = "/healthz,/readyz,/metrics,/static"
_provider: "TracerProvider | None" = None


def start_tracing(settings: Settings, /, *, role: str) -> None:
    """Once in a process, by its entry point.

    Raises:
        InvalidRequest: Traces are asked for, and the packages that send them are not installed.
    """
    global _provider
    if settings.tracing.endpoint is None and not any(os.environ.get(name) for name in STANDARD):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise InvalidRequest("Sending traces needs more packages: pip install 'zooscout[otel]'.") from error
    named = settings.tracing.endpoint
    exporter = OTLPSpanExporter(endpoint=f"{named.rstrip('/')}/v1/traces") if named else OTLPSpanExporter()
    _provider = TracerProvider(resource=Resource.create({"service.name": f"zooscout-{role}"}))
    _provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=SEND_MILLISECONDS))


def trace_requests(app: "FastAPI", /) -> None:
    if _provider is None:
        return
    from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

    FastAPIInstrumentor.instrument_app(
        app, tracer_provider=_provider, excluded_urls=UNTRACED, exclude_spans=["receive", "send"]
    )


@contextmanager
def span(name: str, /, *, origin: Mapping[str, Any] | None = None, **attributes: str | float | None) -> Iterator[None]:
    """A part of the trace at hand, or of the one that `origin` is of."""
    if _provider is None:
        yield
        return
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    context = None if origin is None else TraceContextTextMapPropagator().extract(origin)
    said = {f"zooscout.{key}": value for key, value in attributes.items() if value is not None}
    with _provider.get_tracer("zooscout").start_as_current_span(name, context=context, attributes=said):
        yield


def origin() -> dict[str, Any]:
    """Where work comes from that is asked for now: the request, and its trace."""
    found: dict[str, Any] = {}
    request_id = structlog.contextvars.get_contextvars().get("request_id")
    if request_id is not None:
        found["request_id"] = request_id
    if _provider is not None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(found)
    return found


def flush() -> None:
    """For a process that is about to end without asking anybody."""
    if _provider is not None:
        _provider.force_flush(SEND_MILLISECONDS)
