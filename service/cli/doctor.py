"""`zooscout doctor`: what works here, and what to do about what does not."""

from collections.abc import Callable, Iterator
from typing import Annotated

import typer

from service.cli.exits import Exit
from service.cli.output import err, out, print_json
from service.core.db import Database
from service.core.settings import Settings
from service.operation import machine, stored
from service.operation.checks import Check, State, looked, warning
from service.schema import all_tables

_COLOURS = {State.OK: "green", State.WARNING: "yellow", State.PROBLEM: "red", State.SKIPPED: "dim"}


def doctor(as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
    """Look at everything that zooscout needs here: each line is ok, or says what to do.

    Python, torch, CUDA, FAISS, disk, store, database, its migration and clock, workers, queue, a sample of stored
    embeddings, own weights, the way to the hub. Changes nothing. Exit status 1 where anything is a problem; a warning
    is none. Run it with the settings of the process that has trouble.
    """
    all_tables()
    settings = Settings()
    found: list[Check] = []
    for check in examine(settings):
        found.append(check)
        if not as_json:
            _show(check)
    problems = sum(check.state is State.PROBLEM for check in found)
    if as_json:
        print_json({"ok": not problems, "checks": [_as_json(check) for check in found]})
    elif problems:
        err.print(f"{problems} problem{'s' * (problems > 1)} found.")
    if problems:
        raise typer.Exit(Exit.FAILED)


def examine(settings: Settings, /) -> Iterator[Check]:
    """One after another, as they are found."""
    for name, of_machine in (
        ("python", machine.python),
        ("torch", machine.torch),
        ("cuda", machine.cuda),
        ("faiss", machine.faiss),
        ("disk", machine.disk),
    ):
        yield looked(name, lambda look=of_machine: look(settings))  # type: ignore[misc]
    if stored.nothing_yet(settings):
        yield warning(
            "store", f"nothing is at {settings.data_dir} yet", do="Any command makes it; ZOOSCOUT_DATA_DIR names it."
        )
    else:
        yield looked("store", lambda: stored.store(settings))
        yield from _of_database(settings)
    yield looked("hub", lambda: machine.hub(settings))


def _of_database(settings: Settings) -> Iterator[Check]:
    opened: list[Database] = []

    def connect() -> Check:
        opened.append(stored.open_patiently(settings))
        return stored.database(opened[0])

    reached = looked("database", connect)
    yield reached
    try:
        migrated = _unless(reached, "migration", lambda: stored.migration(opened[0]))
        yield migrated
        yield _unless(reached, "clock", lambda: stored.clock(opened[0], settings))
        yield _unless(migrated, "workers", lambda: stored.workers(opened[0]))
        yield _unless(migrated, "queue", lambda: stored.queue(opened[0], settings))
        yield _unless(migrated, "segments", lambda: stored.segments(opened[0], settings))
        yield _unless(migrated, "weights", lambda: stored.weights(opened[0]))
    finally:
        for database in opened:
            database.dispose()


def _unless(first: Check, name: str, look: Callable[[], Check]) -> Check:
    if first.state is not State.OK:
        return Check(name, State.SKIPPED, f"not looked at, because of {first.name}", f"See to {first.name} first.")
    return looked(name, look)


def _show(check: Check) -> None:
    colour = _COLOURS[check.state]
    out.print(f"[{colour}]{check.state:8}[/] {check.name:10} ", end="")
    out.print(check.found, markup=False, soft_wrap=True)
    if check.do and check.state is not State.OK:
        out.print(f"{'':20}→ {check.do}", markup=False, soft_wrap=True)


def _as_json(check: Check) -> dict[str, str]:
    return {"name": check.name, "state": check.state, "found": check.found, "do": check.do}
