"""What the site takes from the code when it is built, as Markdown: `<!-- generated: NAME -->` in a page becomes it."""

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

MARK = re.compile(r"<!-- generated: (\w+) -->")


def fill(text: str, /) -> str:
    return MARK.sub(lambda match: PARTS[match[1]](), text)


def table(*heads: str, rows: list[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))


def cli() -> str:
    """Every command with its arguments and options."""
    import typer

    from service.cli.connection import add_options
    from service.cli.main import command_line

    whole = typer.main.get_command(command_line())
    add_options(whole)
    return "\n".join(_commands(whole, "zooscout"))


def _commands(group: Any, path: str) -> Iterator[str]:
    for name, command in group.commands.items():
        here = f"{path} {name}"
        if hasattr(command, "commands"):
            yield f"## {here}\n\n{_prose(command.help)}\n"
            yield from _commands(command, here)
            continue
        yield f"{'##' if path == 'zooscout' else '###'} {here}\n\n{_prose(command.help)}\n"
        rows = [(_spelt(one), _told(one)) for one in command.params if not one.hidden]
        if rows:
            yield table("argument or option", "", rows=rows)


def _prose(text: str | None) -> str:
    return re.sub(r"(?m)^(Examples?): (.*(?:\n.+)*)", r"\1:\n\n```sh\n\2\n```", text or "")


def _spelt(parameter: Any) -> str:
    if type(parameter).__name__ == "TyperArgument":
        return f"`{parameter.name.upper()}`" + ("" if parameter.required else ", may be left out")
    return ", ".join(f"`{word}`" for word in (*parameter.opts, *parameter.secondary_opts))


def _told(parameter: Any) -> str:
    said = [re.sub(r"([<>*_\[\]])", r"\\\1", parameter.help or ("print JSON" if parameter.name == "as_json" else ""))]
    if parameter.multiple:
        said.append("may be given several times")
    if isinstance(parameter.default, (str, int, float)) and not isinstance(parameter.default, bool):
        said.append(f"default `{getattr(parameter.default, 'value', parameter.default)}`")
    if parameter.envvar:
        said.append(f"also `{parameter.envvar}`")
    return "; ".join(filter(None, said))


def problems() -> str:
    """Every kind of problem that an answer can bear."""
    from service.api.problems import KINDS, status_of
    from service.datasets import errors as datasets

    kinds = {kind.slug: (kind.status, kind.title) for kind in KINDS.values()}
    rows = [(f"`{slug}`", str(status), title) for slug, (status, title) in sorted(kinds.items())]
    refusals = sorted({leaf.slug: leaf for leaf in _leaves(datasets.DatasetRefused)}.items())
    refused = [(f"`{slug}`", str(status_of(slug)), leaf.remedy) for slug, leaf in refusals]
    return (
        table("type `/problems/…`", "status", "title", rows=rows)
        + "\n## A dataset that is refused\n\n"
        + table("type `/problems/…`", "status", "what to do", rows=refused)
    )


def _leaves(kind: type[Any]) -> Iterator[type[Any]]:
    for below in kind.__subclasses__():
        if "slug" in vars(below):
            yield below
        yield from _leaves(below)


def settings() -> str:
    """Every environment variable with its default."""
    from pydantic import BaseModel

    from service.core.settings import Settings

    parts, single = [], []
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, BaseModel):
            parts.append(f"## {name}\n\n{field.annotation.__doc__ or ''}\n")
            rows = [
                (f"`ZOOSCOUT_{name}__{key}`".upper(), _default(inner.default), inner.description or "")
                for key, inner in type(field.default).model_fields.items()
            ]
            parts.append(table("setting", "default", "", rows=rows))
        else:
            usual = "the user's data directory" if name == "data_dir" else _default(field.default)
            single.append((f"`ZOOSCOUT_{name}`".upper(), usual, field.description or ""))
    return table("setting", "default", "", rows=single) + "\n" + "\n".join(parts)


def _default(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 2**20:
        for power, unit in ((30, "GiB"), (20, "MiB")):
            if value % 2**power == 0:
                return f"{value >> power} {unit}"
    return "none" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def metrics() -> str:
    """Every metric that GET /metrics shows, from a service just started."""
    from starlette.testclient import TestClient

    text = _with_app(lambda app: TestClient(app, base_url="http://127.0.0.1"), "/metrics")
    kinds = dict(re.findall(r"(?m)^# TYPE (\S+) (\S+)$", text))
    rows = [(f"`{name}`", kinds[name], said) for name, said in re.findall(r"(?m)^# HELP (zooscout_\S+) (.*)$", text)]
    return table("metric", "kind", "", rows=rows)


def _with_app(client: Callable[[Any], Any], path: str) -> str:
    from service.api.app import create_app
    from service.core.settings import Settings

    with tempfile.TemporaryDirectory() as folder, client(create_app(Settings(data_dir=Path(folder)))) as asked:
        return str(asked.get(path).text)


def description() -> dict[str, Any]:
    from service.api.app import create_app
    from service.core.settings import Settings

    with tempfile.TemporaryDirectory() as folder:
        return dict(create_app(Settings(data_dir=Path(folder))).openapi())


def api() -> str:
    """Every endpoint and every shape."""
    whole = description()
    by_tag: dict[str, list[str]] = {}
    for path, methods in whole["paths"].items():
        for method, told in methods.items():
            by_tag.setdefault(told.get("tags", ["other"])[0], []).append(_endpoint(method.upper(), path, told))
    parts = [f"## {tag.capitalize()}\n\n" + "\n".join(found) for tag, found in by_tag.items()]
    shapes = [_shape(name, schema) for name, schema in sorted(whole["components"]["schemas"].items())]
    return "\n".join(parts) + "\n## Shapes\n\n" + "\n".join(shapes)


def _endpoint(method: str, path: str, told: Mapping[str, Any]) -> str:
    lines = [f"### `{method} {path}`\n", f"{told.get('summary', '')}. {told.get('description', '')}\n"]
    rows = [
        (f"`{one['name']}`", one["in"], _kind(one["schema"]), one.get("description", ""))
        for one in told.get("parameters", ())
    ]
    if rows:
        lines.append(table("parameter", "in", "", "", rows=rows))
    for media, content in told.get("requestBody", {}).get("content", {}).items():
        lines.append(f"Takes `{media}`: {_kind(content.get('schema', {}))}\n")
    good, bad = [], []
    for status, answer in told["responses"].items():
        if status >= "400":
            bad.append(status)
            continue
        kinds = [f"`{m}` {_kind(c.get('schema', {}))}".rstrip() for m, c in answer.get("content", {}).items()]
        good.append(f"{status} {' or '.join(kinds)}".rstrip())
    lines.append(f"Answers {'; '.join(good)}. Problems: {', '.join(bad) or 'none'}.\n")
    return "\n".join(lines)


def _shape(name: str, schema: Mapping[str, Any]) -> str:
    needed = set(schema.get("required", ()))
    rows = [
        (f"`{key}`" + ("" if key in needed else "?"), _kind(one), one.get("description", ""))
        for key, one in schema.get("properties", {}).items()
    ]
    body = table("", "", "", rows=rows) if rows else _kind(schema) + "\n"
    return f"### {name}\n\n{schema.get('description', '')}\n\n{body}"


def _kind(schema: Mapping[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_kind(one) for one in schema[key]))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if schema.get("type") == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return f"object of {_kind(schema['additionalProperties'])}"
    return str(schema.get("format") or schema.get("type") or "")


PARTS: dict[str, Callable[[], str]] = {
    "cli": cli,
    "problems": problems,
    "settings": settings,
    "metrics": metrics,
    "api": api,
}
