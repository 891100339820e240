"""`zooscout store`: the files beside the database."""

import time
from typing import Annotated

import typer

from service.cli.embedded import PROJECT, embedded, work_until
from service.cli.output import err
from service.jobs import repository as jobs
from service.worker.context import WorkerContext

app = typer.Typer(help="Stored images and embeddings.", no_args_is_help=True)
GIVE_UP_SECONDS = 600.0


@app.command("gc")
def collect(
    purge: Annotated[bool, typer.Option("--purge", help="also what is younger than the grace period")] = False,
) -> None:
    """Remove files that no row needs and that are older than the grace period (ZOOSCOUT_STORE__GRACE_SECONDS)."""
    with embedded() as context:
        with context.database.write() as session:
            jobs.enqueue_collection(session, PROJECT, purge=purge)
        collect_now(context)


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
