"""The grammar of weights references. Standard library only.

file:/absolute/path                                   a file of this machine
hf-hub:organisation/name[@revision][/file]            a file of a hub repository
wheel:package==version/path/in/the/wheel              a member of a published wheel
timm:architecture.tag[@revision]                      what timm's own registry names
open_clip:architecture.tag[@revision]                 what open_clip's own registry names
"""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

from zoo.errors import BadCard

_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_HUB = re.compile(rf"(?P<repo>{_WORD}/{_WORD})(?:@(?P<revision>{_WORD}))?(?:/(?P<filename>.+))?")
_WHEEL = re.compile(rf"(?P<package>{_WORD})==(?P<version>[A-Za-z0-9][A-Za-z0-9.!+_-]*)/(?P<member>.+)")
_REGISTRY = re.compile(
    rf"(?P<architecture>[A-Za-z0-9][A-Za-z0-9_-]*)\.(?P<tag>[A-Za-z0-9][A-Za-z0-9._-]*)(?:@(?P<revision>{_WORD}))?"
)


@dataclass(frozen=True, slots=True)
class FileUri:
    path: str


@dataclass(frozen=True, slots=True)
class HubUri:
    repo: str
    revision: str | None
    filename: str | None


@dataclass(frozen=True, slots=True)
class WheelUri:
    package: str
    version: str
    member: str


@dataclass(frozen=True, slots=True)
class RegistryUri:
    library: str
    architecture: str
    tag: str
    revision: str | None


WeightsUri = FileUri | HubUri | WheelUri | RegistryUri


def parse_weights_uri(uri: str, /) -> WeightsUri:
    """Reads a weights reference, or raises BadCard with the form that was expected."""
    if not isinstance(uri, str) or any(ord(c) < 32 for c in uri):
        raise BadCard(f"a weights uri is one line of text, not {uri!r}")
    scheme, _, rest = uri.partition(":")
    match scheme:
        case "file":
            return _file(uri, rest)
        case "hf-hub":
            found = _HUB.fullmatch(rest)
            if not found:
                raise BadCard(f"expected hf-hub:organisation/name[@revision][/file], not {uri!r}")
            filename = found["filename"]
            return HubUri(found["repo"], found["revision"], _member(uri, filename) if filename else None)
        case "wheel":
            found = _WHEEL.fullmatch(rest)
            if not found:
                raise BadCard(f"expected wheel:package==version/path/in/the/wheel, not {uri!r}")
            return WheelUri(found["package"], found["version"], _member(uri, found["member"]))
        case "timm" | "open_clip":
            found = _REGISTRY.fullmatch(rest)
            if not found:
                raise BadCard(f"expected {scheme}:architecture.tag[@revision], not {uri!r}")
            return RegistryUri(scheme, found["architecture"], found["tag"], found["revision"])
        case _:
            raise BadCard(f"a weights uri begins with file:, hf-hub:, wheel:, timm: or open_clip:, not {uri!r}")


def _file(uri: str, rest: str, /) -> FileUri:
    path = rest.removeprefix("//")
    if not (PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()):
        # A relative path would mean another file in each worker's directory.
        raise BadCard(f"expected file: and an absolute path, not {uri!r}")
    return FileUri(path)


def _member(uri: str, member: str, /) -> str:
    if member.startswith("/") or "\\" in member or any(part in ("", ".", "..") for part in member.split("/")):
        raise BadCard(f"the path inside {uri!r} must be relative and may not climb")
    return member
