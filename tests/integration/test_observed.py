"""One request, followed through the API, the worker and its child: by the ids in the log, and in one trace."""

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from service.core import tracing
from service.core.settings import TracingSettings
from tests.helpers.pictures import class_folders, zipped
from tests.helpers.service import Service, process, running, settings_for, wait_until
from tests.helpers.zoo import TinyZoo

REQUEST, BROKEN = "followed-1", "followed-2"
STAGES = {"POST /v1/rankings", "task plan", "task embed", "perform embed", "load weights", "embed", "score"}


class Collector:
    """An OTLP receiver over HTTP: keeps the spans that it is sent."""

    def __init__(self) -> None:
        self.spans: list[dict[str, Any]] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == "/v1/traces":
                    owner.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200 if self.path == "/v1/traces" else 404)
                self.end_headers()

            def log_message(self, *_args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            attributes = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
            self.spans += [
                {
                    "name": span.name,
                    "of": attributes["service.name"],
                    "trace": span.trace_id.hex(),
                    "id": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                }
                for scope in resource.scope_spans
                for span in scope.spans
            ]

    def trace_of(self, name: str) -> list[dict[str, Any]]:
        traces = {span["trace"] for span in self.spans if span["name"] == name}
        return [span for span in self.spans if span["trace"] in traces]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    if tracing._provider is not None:
        tracing._provider.shutdown()
        tracing._provider = None
    made.close()


@pytest.fixture(scope="module")
def followed(
    collector: Collector, tmp_path_factory: pytest.TempPathFactory, tiny_zoo: TinyZoo
) -> Iterator[tuple[Service, list[dict[str, Any]]]]:
    """A ranking that is done and an inspection that fails, both worked on by a worker process; and its log."""
    folder = tmp_path_factory.mktemp("followed")
    settings = settings_for(folder / "data", None).model_copy(
        update={"tracing": TracingSettings(endpoint=collector.url)}
    )
    with running(settings) as service:
        service.add_models(tiny_zoo.good[:2])
        dataset = service.sealed(zipped(class_folders()))
        log = folder / "worker.log"
        with process(settings, log, "service.worker"):
            asked = {"dataset": dataset["id"], "models": [tiny_zoo.names[0]], "estimators": ["logme"]}
            made = service.call("POST", "/v1/rankings", 202, json=asked, headers={"X-Request-ID": REQUEST})
            path = f"/v1/rankings/{made['id']}"
            wait_until(lambda: service.call("GET", path)["state"] == "done", why="the ranking ends")
            shutil.rmtree(settings.manifest_root)
            path = f"/v1/datasets/{dataset['id']}/inspections"
            service.call("POST", path, 202, json={"model": tiny_zoo.names[0]}, headers={"X-Request-ID": BROKEN})
            wait_until(
                lambda: any('"reference"' in line and BROKEN in line for line in log.read_text().splitlines()),
                why="the child says what went wrong",
            )
            wait_until(lambda: {span["name"] for span in collector.spans} >= STAGES, why="all spans have come")
        yield service, [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def test_every_line_about_a_task_has_its_ids(followed: tuple[Service, list[dict[str, Any]]]) -> None:
    service, lines = followed
    assert {"worker.ready", "task.started", "task.done", "upkeep.done"} <= {line["event"] for line in lines}
    (ranking,) = (item["id"] for item in service.call("GET", "/v1/rankings")["items"])
    about = [line for line in lines if line["event"].startswith("task.") and line["kind"] in {"plan", "embed"}]
    assert len(about) >= 4
    for line in about:
        assert (line["request_id"], line["ranking"]) == (REQUEST, ranking)
        assert line["task"].startswith("tsk_")
    by_child = next(line for line in lines if "reference" in line and line["kind"] == "inspect")
    assert by_child["request_id"] == BROKEN
    assert "FileNotFoundError" in by_child["exception"]


def test_a_request_is_one_trace_down_to_the_stages(
    followed: tuple[Service, list[dict[str, Any]]], collector: Collector
) -> None:
    spans = collector.trace_of("POST /v1/rankings")
    by_id = {span["id"]: span for span in spans}

    def above(span: dict[str, Any]) -> list[str]:
        found = []
        while span["parent"] in by_id:
            span = by_id[span["parent"]]
            found.append(span["name"])
        return found

    scored = next(span for span in spans if span["name"] == "score")
    assert above(scored) == ["perform embed", "task embed", "perform plan", "task plan", "POST /v1/rankings"]
    assert scored["of"] == "zooscout-worker"
    assert next(span for span in spans if span["name"] == "POST /v1/rankings")["of"] == "zooscout-api"
    assert {"load weights", "embed"} <= {span["name"] for span in spans}
    assert not [span for span in collector.spans if "readyz" in span["name"]]
