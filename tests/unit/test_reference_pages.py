"""Every option of the command line, every endpoint and every kind of problem stands in the reference."""

import importlib.util
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import typer

from service.api.problems import KINDS
from service.cli.connection import add_options
from service.cli.main import command_line
from service.datasets.errors import DatasetRefused
from tests.helpers.service import ROOT


@pytest.fixture(scope="module")
def generated() -> ModuleType:
    """What the site takes from the code; it lies beside the pages, in no package."""
    spec = importlib.util.spec_from_file_location("generated", ROOT / "docs" / "generated.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["generated"] = module
    spec.loader.exec_module(module)
    return module


def page(generated: ModuleType, name: str) -> str:
    text = (ROOT / "docs" / "reference" / f"{name}.md").read_text()
    assert f"<!-- generated: {name} -->" in text
    return str(generated.fill(text))


def commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def test_every_command_and_option_is_in_the_reference(generated: ModuleType) -> None:
    whole = typer.main.get_command(command_line())
    add_options(whole)
    text = page(generated, "cli")
    found = list(commands(whole, "zooscout"))
    assert len(found) > 40
    for path, command in found:
        _, _, rest = text.partition(f"# {path}\n")
        assert rest, path
        section = rest.split("\n## ")[0].split("\n### ")[0]
        for option in command.params:
            for word in option.opts if not option.hidden else ():
                assert f"`{word if word.startswith('-') else word.upper()}`" in section, f"{path} {word}"


def test_no_argument_of_a_command_is_taken_for_an_option_that_all_have() -> None:
    whole = typer.main.get_command(command_line())
    add_options(whole)
    for path, command in commands(whole, "zooscout"):
        names = [parameter.name for parameter in command.params]
        assert len(set(names)) == len(names), f"{path}: {names}"


def test_every_kind_of_problem_is_in_the_reference(generated: ModuleType) -> None:
    text = page(generated, "problems")
    for kind in KINDS.values():
        assert f"| `{kind.slug}` | {kind.status} |" in text, kind.slug
    waiting, slugs = [DatasetRefused], set()
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        slugs |= {kind.slug} if hasattr(kind, "slug") else set()
    assert "compression-bomb" in slugs
    assert not {slug for slug in slugs if f"| `{slug}` |" not in text}


def test_every_endpoint_and_shape_is_in_the_reference(generated: ModuleType) -> None:
    text = page(generated, "api")
    whole = generated.description()
    for path, methods in whole["paths"].items():
        for method in methods:
            assert f"### `{method.upper()} {path}`\n" in text
    for name in whole["components"]["schemas"]:
        assert f"\n### {name}\n" in text


def test_settings_and_metrics_are_told_with_defaults(generated: ModuleType) -> None:
    assert "| `ZOOSCOUT_SERVER__PORT` | `8750` |" in page(generated, "settings")
    assert "| `ZOOSCOUT_UPLOADS__MAX_UPLOAD_BYTES` | 20 GiB |" in page(generated, "settings")
    assert "| `zooscout_queue_tasks` | gauge |" in page(generated, "metrics")
