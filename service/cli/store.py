"""`zooscout store`: the files beside the database."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from service.cli.embedded import PROJECT, embedded, work_until
from service.cli.output import err, out, print_json
from service.embeddings import repository as embeddings
from service.embeddings import upkeep
from service.embeddings.model import SegmentInfo
from service.jobs import repository as jobs
from service.worker.context import WorkerContext
from service.worker.mending import Lost, mend, models_of, still_lost

app = typer.Typer(help="Stored images and embeddings: list, verify, compact, collect.", no_args_is_help=True)
GIVE_UP_SECONDS = 600.0
AsJson = Annotated[bool, typer.Option("--json")]


@app.command("ls")
def list_segments(as_json: AsJson = False) -> None:
    """List what is stored, by model: segments, rows, bytes, and how many bytes a row's numbers would be alone."""
    with embedded() as context:
        with context.database.read() as session:
            segments = embeddings.all_segments(session, PROJECT)
        names = {extractor: card.name for extractor, card in models_of(context, PROJECT).items()}
    kinds: dict[tuple[str, str, str], list[SegmentInfo]] = {}
    for info in segments:
        kinds.setdefault((info.key.extractor_id, info.key.kind, info.storage), []).append(info)
    rows = [_summary(names, *kind, held) for kind, held in kinds.items()]
    if as_json:
        print_json({"embeddings": rows})
        return
    table = Table(caption="superseded and damaged segments go with `zooscout store gc`", caption_justify="left")
    for column in ("model", "kind", "storage", "rows", "width", "MB", "of raw", "segments", "out of use"):
        table.add_column(column, overflow="fold", no_wrap=column == "model")
    for row in sorted(rows, key=lambda row: (row["model"] or "~", row["kind"])):
        table.add_row(
            row["model"] or f"(removed) {row['extractor_id'][:12]}",
            row["kind"],
            row["storage"],
            str(row["rows"]),
            str(row["dim"]),
            f"{row['bytes'] / 1e6:.1f}",
            "" if row["bytes_over_raw"] is None else f"{row['bytes_over_raw']:.3f}",
            str(row["segments"]["active"]),
            str(row["segments"]["superseded"] + row["segments"]["damaged"]),
        )
    out.print(table)


def _summary(names: dict[str, str], extractor: str, kind: str, storage: str, held: list[SegmentInfo]) -> dict[str, Any]:
    active = [info for info in held if info.state == "active"]
    raw = sum(4 * info.n_rows * info.dim for info in active)
    return {
        "model": names.get(extractor),
        "extractor_id": extractor,
        "kind": kind,
        "storage": storage,
        "rows": sum(info.n_rows for info in active),
        "dim": held[0].dim,
        "bytes": sum(info.bytes for info in active),
        "bytes_over_raw": sum(info.bytes for info in active) / raw if raw else None,
        "segments": {state: sum(info.state == state for info in held) for state in ("active", "superseded", "damaged")},
    }


@app.command("verify")
def verify(
    repair: Annotated[
        bool, typer.Option("--repair/--no-repair", help="embed again what damaged segments held, and nothing else")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Read every segment to its end and compare it with what was written.

    A segment whose file is gone, cut short, altered or another one's is taken out of use, and its images are embedded
    again at once. The exit status is 1 while anything that was lost is not embedded again; running verify once more
    goes on from there.
    """
    with embedded() as context:
        with _bar("reading segments") as progress:
            damage = upkeep.find_damage(context.store, context.database, PROJECT, progress)
        lost = still_lost(context, PROJECT)
        failed: dict[str, str] = {}
        left = lost
        if repair and lost:
            with _bars() as bars:
                bar = bars.add_task("embedding again", total=None)
                failed = mend(
                    context,
                    PROJECT,
                    lost,
                    lambda name, done, total: bars.update(
                        bar, description=f"embedding again with {name}", completed=done, total=total or None
                    ),
                )
            left = still_lost(context, PROJECT)
        names = {extractor: card.name for extractor, card in models_of(context, PROJECT).items()}
        with context.database.read() as session:
            segments = [info for info in embeddings.all_segments(session, PROJECT) if info.state == "active"]
    problems = _problems(names, damage, lost, left, failed)
    sound = not left
    if as_json:
        print_json(
            {
                "sound": sound,
                "segments": len(segments),
                "rows": sum(info.n_rows for info in segments),
                "bytes": sum(info.bytes for info in segments),
                "damaged": problems,
            }
        )
    else:
        for problem in problems:
            model = problem["model"] or f"removed model {problem['extractor_id'][:12]}"
            err.print(f"[red]damaged[/] {problem['segment']} ({model}, {problem['kind']}): {problem['problem']}.")
            note = f", {problem['rows_lost']} are lost: {problem['why']}" if problem["rows_lost"] else ""
            err.print(f"  of {problem['rows']} rows {problem['rows_embedded_again']} were embedded again{note}.")
        rows = sum(info.n_rows for info in segments)
        state = "sound" if sound else "in use; the damaged ones are not"
        out.print(f"{len(segments)} segments with {rows} rows are {state}.")
    if not sound:
        raise typer.Exit(1)


def _problems(
    names: dict[str, str], damage: list[upkeep.Damage], lost: list[Lost], left: list[Lost], failed: dict[str, str]
) -> list[dict[str, Any]]:
    found = {item.segment.id: item.problem for item in damage}
    concerned = {item.segment.id: item.segment for item in damage} | {item.segment.id: item.segment for item in lost}
    before, after = ({item.segment.id: len(item.hashes) for item in items} for items in (lost, left))
    return [
        {
            "segment": ident,
            "model": names.get(info.key.extractor_id),
            "extractor_id": info.key.extractor_id,
            "kind": info.key.kind,
            "problem": found.get(ident, "found damaged by an earlier check"),
            "rows": info.n_rows,
            "rows_embedded_again": before.get(ident, 0) - after.get(ident, 0),
            "rows_lost": after.get(ident, 0),
            "why": failed.get(info.key.extractor_id, "not tried") if after.get(ident) else None,
        }
        for ident, info in concerned.items()
    ]


@app.command("compact")
def compact(as_json: AsJson = False) -> None:
    """Merge small segments, so that reading a dataset opens few files. Safe beside running workers.

    The old files go by `zooscout store gc` once the grace period is over.
    """
    with embedded() as context, _bar("merging segments") as progress:
        result = upkeep.compact(context.store, context.database, PROJECT, progress)
    if as_json:
        print_json(
            {"segments_before": result.segments_before, "segments_after": result.segments_after, "rows": result.rows}
        )
    else:
        out.print(f"{result.segments_before} segments became {result.segments_after}; {result.rows} rows were merged.")


@app.command("gc")
def collect(
    purge: Annotated[bool, typer.Option("--purge", help="also what is younger than the grace period")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove files that no row needs and that are older than the grace period (ZOOSCOUT_STORE__GRACE_SECONDS)."""
    with embedded() as context:
        before = context.store.files.listed(PROJECT)
        with context.database.write() as session:
            jobs.enqueue_collection(session, PROJECT, purge=purge)
        collect_now(context)
        after = context.store.files.listed(PROJECT)
    freed = sum(file.size for file in before) - sum(file.size for file in after)
    gone = len({file.name for file in before} - {file.name for file in after})
    if as_json:
        print_json({"segment_files_removed": gone, "segment_bytes_freed": freed})
    else:
        out.print(f"{gone} files of segments were removed: {freed / 1e6:.1f} MB.")


def collect_now(context: WorkerContext, /) -> None:
    """Works off the collections that are queued. One that waits for an upload is left to a worker in the end."""
    deadline = time.monotonic() + GIVE_UP_SECONDS

    def ended() -> bool:
        with context.database.read() as session:
            return jobs.count_open(session, PROJECT) == 0 or time.monotonic() > deadline

    work_until(context, [PROJECT], ended, lambda: None)
    with context.database.read() as session:
        if jobs.count_open(session, PROJECT):
            err.print("A dataset is being taken in: the collection is queued and runs after it.")


def _bars() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)


@contextmanager
def _bar(description: str) -> Iterator[Callable[[int, int], None]]:
    with _bars() as bars:
        bar = bars.add_task(description, total=None)
        yield lambda done, total: bars.update(bar, completed=done, total=total or None)
