"""`zooscout rank`: the whole job in one command, with no server."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

from service.cli.embedded import PROJECT, embedded, work_until
from service.cli.output import err, fail, print_json, print_ranking
from service.core.errors import NotFound
from service.datasets import repository as dataset_rows
from service.datasets import service as datasets
from service.datasets.digest import source_digest
from service.datasets.schemas import DatasetView
from service.models import repository as models
from service.models.schemas import ModelFilter
from service.rankings import service as rankings
from service.rankings.repository import ENDED
from service.rankings.schemas import RankingCreate, RankingView
from service.worker.context import WorkerContext


def rank(
    data: Annotated[str, typer.Argument(help="a folder, an archive or a Parquet file, or the id or name of a dataset")],
    model_globs: Annotated[
        list[str], typer.Option("--models", "-m", help="names of candidates: a glob such as 'resnet*', or several")
    ],
    estimators: Annotated[
        str | None, typer.Option("--estimators", "-e", help="comma-separated; see `zooscout estimators`")
    ] = None,
    ordered_by: Annotated[str | None, typer.Option(help="the estimator that orders the table")] = None,
    name: Annotated[str | None, typer.Option(help="name of the dataset; the file's name if not given")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the shape of GET /v1/rankings/{id}")] = False,
) -> None:
    """Rank pretrained models by how well their features transfer to your labelled images.

    Nothing is fine-tuned. What was embedded or scored before is not computed again. Exit status: 0 when the ranking is
    done, 2 when some of its models failed, 1 when there is no ranking.

    Example: zooscout rank flowers/ --models 'efficientnet*' --models 'resnet*'
    """
    names = [part.strip() for part in estimators.split(",")] if estimators else None
    with embedded() as context:
        rankings.chosen_estimators(names, ordered_by)
        candidates = _candidates(context, model_globs)
        dataset_id = _dataset(context, data, name)
        with context.database.write() as session:
            request = RankingCreate(dataset=dataset_id, models=candidates, estimators=names, ordered_by=ordered_by)
            ranking_id = rankings.create(session, PROJECT, request).id
        view = _follow(context, ranking_id)
    if as_json:
        print_json(view)
    else:
        print_ranking(view)
    if view.state != "done":
        raise typer.Exit(1)
    if any(entry.state == "failed" for entry in view.entries):
        raise typer.Exit(2)


def _candidates(context: WorkerContext, globs: list[str]) -> list[str]:
    found: dict[str, None] = {}
    with context.database.read() as session:
        for glob in (part.strip() for text in globs for part in text.split(",")):
            ids = models.matching_ids(session, PROJECT, ModelFilter(name=glob), limit=20_000)
            if not ids:
                total = models.count(session, PROJECT, ModelFilter())
                advice = (
                    "the catalog is empty: try `zooscout models import timm` or `zooscout models add`"
                    if total == 0
                    else f"`zooscout models ls` shows the {total} there are"
                )
                fail(f"No model matches '{glob}'; {advice}.")
            found |= dict.fromkeys(ids)
    return list(found)


def _dataset(context: WorkerContext, data: str, name: str | None) -> str:
    path = Path(data)
    if path.exists():
        return take_in(context, path, name)
    with context.database.read() as session:
        row = dataset_rows.find(session, PROJECT, data)
    if row is None:
        raise NotFound("file, folder or dataset", data)
    return row.id


def take_in(context: WorkerContext, path: Path, name: str | None, /) -> str:
    """Checks and seals a dataset by path, or finds the one it has already become. Returns its id."""
    with bars() as shown:
        shown.add_task("reading", total=None)
        digest = source_digest(path)
        with context.database.write() as session:
            accepted = datasets.accept(
                session,
                PROJECT,
                path.absolute(),
                name=name or path.name,
                source_digest=digest,
                delete_source=False,
            )
    view = checked(context, accepted.row.id)
    if accepted.already_known:
        err.print(f"Dataset {view.name} is known already ({view.id}).")
    return view.id


def checked(context: WorkerContext, ident: str, /) -> DatasetView:
    """Works until the dataset is sealed; a refusal ends the command with its reason."""
    with bars() as shown:
        bar = shown.add_task("checking images", total=None)

        def state() -> str:
            with context.database.read() as session:
                return dataset_rows.get(session, PROJECT, ident).state

        def watch() -> None:
            with context.database.read() as session:
                progress = datasets.show(session, PROJECT, ident).progress
            shown.update(
                bar,
                completed=progress.get("images_checked", 0),
                total=progress.get("images_total"),
            )

        if state() == "checking":
            work_until(context, [ident], lambda: state() != "checking", watch)
    with context.database.read() as session:
        view = datasets.show(session, PROJECT, ident)
    if view.state == "refused":
        problem = view.problem or {}
        fail(f"{problem.get('title')}. {problem.get('detail')}")
    return view


def _follow(context: WorkerContext, ranking_id: str) -> RankingView:
    def show() -> RankingView:
        with context.database.read() as session:
            return rankings.show(session, PROJECT, ranking_id)

    def ended() -> bool:
        with context.database.read() as session:
            return rankings.state_of(session, PROJECT, ranking_id) in ENDED

    with bars() as shown:
        images = shown.add_task("planning", total=None)
        done = shown.add_task("models", total=None)

        def watch() -> None:
            progress = show().progress
            speed = f", {progress.images_per_second:.0f} images/s" if progress.images_per_second else ""
            left = f", {progress.seconds_left:.0f} s left" if progress.seconds_left else ""
            shown.update(
                images,
                description=f"{progress.stage}{speed}{left}",
                completed=progress.images_embedded,
                total=progress.images_to_embed or None,
            )
            shown.update(done, completed=progress.models_done, total=progress.models_total)

        work_until(context, [ranking_id], ended, watch)
    return show()


def bars() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )
