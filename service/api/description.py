"""The answers that every endpoint of a kind can give, written into the description once for all of them."""

from typing import Any

from fastapi import FastAPI

from service.api.problems import MEDIA_TYPE, Problem

_SECONDS = {"schema": {"type": "string"}, "description": "seconds to wait"}
_PROBLEMS: dict[int, str] = {
    400: "The body cannot be read",
    401: "A valid API key is needed",
    403: "The key's scope does not reach that far, or another site's page asks",
    404: "There is no such thing in the project",
    408: "The body did not come in time",
    409: "It contradicts what is stored, or what it needs is not ready",
    412: "It is no longer what If-Match names",
    413: "The body, or what the project would have stored, is too large",
    415: "The upload is in no format that is read here",
    422: "The request cannot be carried out as it stands",
    429: "The key asks too often, or the project has enough work waiting",
    500: "The service failed; `detail` has a reference to its log",
    503: "The database, or another part that this needs, does not answer now",
}
_HEADERS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    429: {"Retry-After": _SECONDS},
    503: {"Retry-After": _SECONDS},
}
_EVERY = {401, 403, 422, 429, 500, 503}
_NAMES_SOMETHING = {404, 409}
_WRITES = {400, 404, 408, 409, 413, 415}
_METHODS = frozenset({"get", "put", "post", "delete", "patch"})
_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "maxLength": 2000},
    "description": "the ETag that an earlier GET gave: 304 if nothing has changed",
}


def describe(app: FastAPI, /, *, key_needed: bool) -> None:
    """Completes the app's description when it is first asked for."""
    as_declared = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(as_declared(), key_needed=key_needed)
        return as_declared()

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(description: dict[str, Any], /, *, key_needed: bool) -> None:
    components = description.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own; ours are problems
        schemas.pop(name, None)
    schemas["Problem"] = Problem.model_json_schema()
    components["responses"] = {_name(status): _response(status) for status in _PROBLEMS}
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": "an API key"}}
    for path, operations in description["paths"].items():
        for method, operation in operations.items():
            if method in _METHODS and path.startswith(("/v1/", "/metrics")):
                _complete_operation(path, method, operation)
                operation["security"] = [{"key": []}] if key_needed else [{"key": []}, {}]
            elif "422" in operation["responses"]:
                operation["responses"]["422"] = {"$ref": f"#/components/responses/{_name(422)}"}


def _complete_operation(path: str, method: str, operation: dict[str, Any], /) -> None:
    responses = operation["responses"]
    responses.pop("422", None)
    possible = set(_EVERY)
    headers = {p["name"].lower() for p in operation.get("parameters", []) if p["in"] == "header"}
    if "{" in path:
        possible |= _NAMES_SOMETHING
    if method == "get":
        possible.add(404)
    else:
        possible |= _WRITES
    if "if-match" in headers:
        possible.add(412)
    for status in sorted(possible):
        responses.setdefault(str(status), {"$ref": f"#/components/responses/{_name(status)}"})
    if method == "get" and "application/json" in responses.get("200", {}).get("content", {}):
        responses["200"].setdefault("headers", {})["ETag"] = {"schema": {"type": "string"}}
        responses["304"] = {"description": "It is what If-None-Match names; there is no body"}
        operation.setdefault("parameters", []).append(_IF_NONE_MATCH)


def _name(status: int, /) -> str:
    return f"Problem{status}"


def _response(status: int, /) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        "description": f"{_PROBLEMS[status]} (RFC 9457)",
        "content": {MEDIA_TYPE: {"schema": schema}},
        **({"headers": _HEADERS[status]} if status in _HEADERS else {}),
    }
