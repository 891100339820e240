"""What Dockerfile and compose file say, so that a container's command can run as a process."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml

from tests.helpers.service import ROOT


@dataclass(frozen=True)
class Stage:
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "root"
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    copied: list[str] = field(default_factory=list)
    lists: list[str] = field(default_factory=list)  # of requirements, those of the stages it copies from included


def stages(dockerfile: str) -> dict[str, Stage]:
    """Every stage by its name, with what it inherits."""
    found: dict[str, Stage] = {}
    name = ""
    lines = re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^\s*#.*\n", "", dockerfile)).splitlines()
    for word, _, rest in (line.strip().partition(" ") for line in lines if line.strip()):
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = replace(found.get(base, Stage()), copied=[])
            continue
        stage = found[name]
        if word == "ENV":
            pairs = dict(pair.split("=", 1) for pair in rest.split())
            found[name] = replace(stage, environment=stage.environment | pairs)
        elif word == "USER":
            found[name] = replace(stage, user=rest)
        elif word == "CMD":
            found[name] = replace(stage, command=json.loads(rest))
        elif word == "HEALTHCHECK":
            found[name] = replace(stage, healthcheck=json.loads(rest.partition("CMD ")[2]))
        elif word == "COPY" and rest.startswith("--from="):
            source = rest.removeprefix("--from=").split()[0]
            found[name] = replace(stage, lists=[*stage.lists, *found[source].lists])
        elif word == "COPY":
            found[name] = replace(stage, copied=[*stage.copied, *rest.split()[:-1]])
        elif word == "RUN":
            found[name] = replace(stage, lists=[*stage.lists, *re.findall(r"-r (\S+)", rest)])
    return found


def compose(variables: Mapping[str, str]) -> dict[str, Any]:
    """The compose file with its variables filled in, as an engine fills them in."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in variables:
            raise KeyError(f"{match[1]}: {match[2]}")
        return variables[match[1]]

    text = (ROOT / "docker-compose.yml").read_text()
    text = re.sub(r"(?m)(^|\s)#.*$", "", text)
    return dict(yaml.safe_load(re.sub(r"\$\{(\w+):\?([^}]*)\}", value, text)))


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def listed(name: str) -> dict[str, list[str]]:
    """The packages of a list, each with its hashes."""
    found: dict[str, list[str]] = {}
    for block in re.split(r"\n(?=[a-z])", (ROOT / name).read_text().replace("\\\n", " ")):
        if "==" in block:
            found.setdefault(canonical(block.split("==")[0]), []).extend(re.findall(r"--hash=sha256:(\w{64})", block))
    return found


def absent_modules(lists: list[str]) -> list[str]:
    """What can be imported here and could not be where only these lists are installed."""
    held = {package for name in lists for package in listed(name)} | {"zooscout"}
    return sorted(
        module
        for module, owners in metadata.packages_distributions().items()
        if not {canonical(owner) for owner in owners} & held
    )


def hide(modules: list[str], folder: Path) -> None:
    """Python processes with this folder on their path find none of the modules."""
    (folder / "sitecustomize.py").write_text(
        f"""import sys
from importlib.machinery import PathFinder
HIDDEN = frozenset({modules!r})
class Image:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if path is not None or name not in HIDDEN:
            return PathFinder.find_spec(name, path, target)
        # Ray brings some of them within itself.
        brought = PathFinder.find_spec(name, [p for p in sys.path if not p.endswith("site-packages")])
        if brought is not None and brought.loader is not None:
            return brought
        if sys._getframe(2).f_code.co_name == "find_spec":  # somebody asks without importing
            return None
        raise ModuleNotFoundError(f"No module named {{name!r}} in this image", name=name)
    invalidate_caches = PathFinder.invalidate_caches
    find_distributions = PathFinder.find_distributions
sys.meta_path[sys.meta_path.index(PathFinder)] = Image
"""
    )
