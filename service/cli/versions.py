"""`zooscout datasets version`."""

import csv
from pathlib import Path

from service.cli.connection import connected
from service.cli.embedded import PROJECT
from service.cli.exits import Exit
from service.cli.output import fail, out, print_json
from service.cli.rank import checked
from service.client.results import Dataset
from service.core.ids import new_id
from service.datasets import service as datasets
from service.datasets import versions
from service.datasets.digest import source_digest
from service.datasets.manifest import read_manifest
from service.datasets.schemas import VersionCreate
from service.worker.context import WorkerContext


def make_version(
    parent: str, add: Path | None, remove: list[str], relabel: Path | None, name: str | None, /, *, as_json: bool
) -> None:
    if add is not None and not add.exists():
        fail(f"There is nothing at '{add}'.", status=Exit.NOT_FOUND)
    if add is None and not remove and relabel is None:
        fail("Name at least one change: --add, --remove or --relabel.", status=Exit.USAGE)
    removed = [line for text in remove for line in _lines(text)]
    relabelled = _labels(relabel) if relabel is not None else {}
    body = VersionCreate(remove=removed, relabel=relabelled) if removed or relabelled else None
    with connected() as at:
        if at.context is not None:
            ident = _accept(at.context, parent, add, body, name)
        elif add is not None and body is not None:
            fail("With --url, add images in one command and remove or relabel in another.", status=Exit.USAGE)
        else:
            changes = body if add is None else add
            ident = at.client.make_version(parent, changes or "", name=name).id
        view = checked(at, ident)
    _print(view, as_json=as_json)


def _accept(
    context: WorkerContext, parent: str, add: Path | None, body: VersionCreate | None, name: str | None, /
) -> str:
    """Where this process does the work, everything at once and files where they lie."""
    with context.database.read() as session:
        row = datasets.sealed(session, PROJECT, parent)
    if body is not None:
        manifest = read_manifest(context.manifest_path(PROJECT, row.id))
        versions.check(manifest, versions.Changes(tuple(body.remove), body.relabel), adds=add is not None)
    changes = None
    if body is not None:
        changes = context.settings.upload_root / new_id("up")
        changes.parent.mkdir(parents=True, exist_ok=True)
        changes.write_text(body.model_dump_json(), encoding="utf-8")
    digest = datasets.version_digest(
        row.id, archive_sha256=None if add is None else source_digest(add), changes=body, add=None
    )
    source = datasets.VersionSource(
        archive=None if add is None else add.absolute(), changes=changes, add=None, delete=changes
    )
    with context.database.write() as session:
        accepted = datasets.accept_version(session, PROJECT, row.id, source, name=name, digest=digest)
    if accepted.already_known and changes is not None:
        changes.unlink()
    return accepted.row.id


def _print(view: Dataset, /, *, as_json: bool) -> None:
    if as_json:
        print_json(view)
        return
    found = view.changes or {}
    counts = ", ".join(f"{found[kind]:,} {kind}" for kind in ("added", "removed", "relabelled"))
    out.print(f"{view.name}: {counts}; {view.n_images} images in {view.n_classes} classes, sealed as {view.id}.")
    for note in (view.report or {}).get("notes", []):
        out.print(f"  {note}")


def _lines(text: str, /) -> list[str]:
    """A .txt file is a list; anything else is an image, even where a file of that name lies here."""
    if not text.lower().endswith(".txt"):
        return [text]
    try:
        return [line.strip() for line in Path(text).read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        fail(f"'{text}' cannot be read as a list of images: {error}", status=Exit.BAD_INPUT)


def _labels(path: Path, /) -> dict[str, str]:
    labels: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not {"path", "label"} <= set(reader.fieldnames or ()):
                fail(f"'{path}' needs the header path,label.", status=Exit.BAD_INPUT)
            for row in reader:
                image, label = row["path"], row["label"] or ""
                if labels.setdefault(image, label) != label:
                    fail(
                        f"'{path}' gives '{image}' two classes, '{labels[image]}' and '{label}'.", status=Exit.BAD_INPUT
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        fail(f"'{path}' cannot be read as a CSV: {error}", status=Exit.BAD_INPUT)
    return labels
