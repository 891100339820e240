"""`zooscout rank`: the whole job in one command."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

from service.cli.connection import Connection, connected
from service.cli.exits import Exit, Interrupted
from service.cli.output import err, fail, print_json, print_ranking
from service.client import ApiProblem
from service.client.results import Dataset, Model, Ranking
from service.core.errors import NotFound
from service.datasets.text_tables import TextColumns
from service.models.schemas import ModelFilter
from service.rankings import service as rankings
from service.rankings.schemas import RankingCreate

if TYPE_CHECKING:
    from service.worker.context import WorkerContext

PAGE = 1000


def rank(
    data: Annotated[str, typer.Argument(help="a folder, an archive or a Parquet file, or the id or name of a dataset")],
    model_globs: Annotated[
        list[str], typer.Option("--models", "-m", help="names of candidates: a glob such as 'resnet*', or several")
    ],
    estimators: Annotated[
        str | None, typer.Option("--estimators", "-e", help="comma-separated; see `zooscout estimators`")
    ] = None,
    ordered_by: Annotated[str | None, typer.Option(help="the estimator that orders the table")] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="race the candidates within 90s, 10m, 2h, or 5000img (images, each counted once a model)"),
    ] = None,
    name: Annotated[str | None, typer.Option(help="name of the dataset; the file's name if not given")] = None,
    text_column: Annotated[str | None, typer.Option(help="of a CSV or Parquet file of texts")] = None,
    label_column: Annotated[str | None, typer.Option(help="with --text-column; 'label' if not given")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the shape of GET /v1/rankings/{id}")] = False,
) -> None:
    """Rank pretrained models by how well their features transfer to your labelled images or texts.

    Nothing is fine-tuned. What was embedded or scored before is not computed again. Exit status: 0 when the ranking is
    done, 6 when some of its models failed, 1 when none could be scored; docs/cli.md has the others.

    With --budget the candidates race over growing samples: who has less than a 5 % chance to be among the first three
    on all images is dropped, and the table says after how many images.

    Example: zooscout rank flowers/ --models 'efficientnet*' --models 'resnet*'
    """
    names = [part.strip() for part in estimators.split(",")] if estimators else None
    rankings.chosen_estimators(names, ordered_by)
    with connected() as at:
        found_models = _candidates(at, model_globs)
        dataset = _dataset(at, data, name, TextColumns.asked(text_column, label_column))
        candidates = _fitting(found_models, dataset)
        asked = at.client.create_ranking(
            RankingCreate(dataset=dataset.id, models=candidates, estimators=names, ordered_by=ordered_by, budget=budget)
        )
        found = follow_ranking(at, asked.id)
    show_and_exit(found, as_json=as_json)


def show_and_exit(found: Ranking, /, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        print_ranking(found.view())
    if found.state != "done":
        raise typer.Exit(Exit.FAILED)
    if any(entry.state == "failed" for entry in found.entries):
        raise typer.Exit(Exit.SOME_FAILED)


def _candidates(at: Connection, globs: list[str]) -> dict[str, tuple[Model, bool]]:
    """By id, with whether the model was named and not only matched."""
    found: dict[str, tuple[Model, bool]] = {}
    for glob in (part.strip() for text in globs for part in text.split(",")):
        wanted, cursor, before = ModelFilter(name=glob), None, len(found)
        while True:
            page = at.client.models(wanted, limit=PAGE, cursor=cursor)
            found |= {m.id: (m, m.name == glob) for m in page.items if m.id not in found or m.name == glob}
            cursor = page.next_cursor
            if cursor is None:
                break
        if not page.items and len(found) == before:
            total = at.client.models(limit=1).total
            advice = (
                "the catalog is empty: try `zooscout models import timm` or `zooscout models add`"
                if total == 0
                else f"`zooscout models ls` shows the {total} there are"
            )
            fail(f"No model matches '{glob}'; {advice}.", status=Exit.NOT_FOUND)
    return found


def _fitting(found: dict[str, tuple[Model, bool]], dataset: Dataset) -> list[str]:
    """Those that read what the dataset holds; a model that was named stays, for the service to say what is wrong."""
    fitting = [ident for ident, (model, named) in found.items() if named or model.modality == dataset.modality]
    if not fitting:
        fail(
            f"None of the {len(found)} models reads {dataset.modality}s, which '{dataset.name}' holds; "
            f"`zooscout models ls --modality {dataset.modality}` shows those that do.",
            status=Exit.NOT_FOUND,
        )
    return fitting


def _dataset(at: Connection, data: str, name: str | None, texts: TextColumns | None) -> Dataset:
    path = Path(data)
    if path.exists():
        return take_in(at, path, name, texts)
    try:
        return at.client.dataset(data)
    except ApiProblem as problem:
        if problem.status != 404:
            raise
        raise NotFound("file, folder or dataset", data) from problem


def take_in(at: Connection, path: Path, name: str | None, texts: TextColumns | None = None, /) -> Dataset:
    """Checks and seals a dataset by path, or finds the one it has already become."""
    if at.context is not None:
        ident, known = _accept(at.context, path, name, texts)
    else:
        with bars() as shown:
            bar = shown.add_task("uploading", total=None)
            made = at.client.upload_dataset(
                path,
                name=name,
                text_column=texts.text if texts else None,
                label_column=texts.label if texts else None,
                progress=lambda sent, size: shown.update(bar, completed=sent, total=size),
            )
        ident, known = made.id, made.state == "sealed"
    found = checked(at, ident)
    if known:
        err.print(f"Dataset {found.name} is known already ({found.id}).")
    return found


def _accept(context: "WorkerContext", path: Path, name: str | None, texts: TextColumns | None) -> tuple[str, bool]:
    """Where this process does the work the path is read where it lies."""
    from service.cli.embedded import PROJECT
    from service.datasets import service as datasets
    from service.datasets.digest import source_digest

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
                texts=texts.to_json() if texts else None,
            )
            return accepted.row.id, accepted.already_known


def checked(at: Connection, ident: str, /) -> Dataset:
    """Waits until the dataset is sealed; a refusal ends the command with its reason."""
    with bars() as shown:
        bar = shown.add_task("checking", total=None)

        def watch(found: Dataset) -> None:
            progress = found.progress
            shown.update(bar, completed=progress.get("images_checked", 0), total=progress.get("images_total"))

        found = at.settle([ident], lambda: at.client.dataset(ident), lambda d: d.state != "checking", watch)
    if found.state == "refused":
        problem = found.problem or {}
        fail(f"{problem.get('title')}. {problem.get('detail')}", status=Exit.BAD_INPUT)
    return found


def follow_ranking(at: Connection, ident: str, /) -> Ranking:
    with bars() as shown:
        images = shown.add_task("planning", total=None)
        done = shown.add_task("models", total=None)
        said = ""

        def watch(found: Ranking) -> None:
            nonlocal said
            progress = found.progress
            stage = f"{progress.stage}, {progress.models_done} of {progress.models_total} models done"
            if not err.is_terminal and stage != said:  # a log shows no bars
                err.print(stage)
                said = stage
            unit = f"{found.dataset.modality}s/s"
            speed = f", {progress.images_per_second:.3g} {unit}" if progress.images_per_second else ""
            left = f", {progress.seconds_left:.0f} s left" if progress.seconds_left else ""
            shown.update(
                images,
                description=f"{progress.stage}{speed}{left}",
                completed=progress.images_embedded,
                total=progress.images_to_embed or None,
            )
            shown.update(done, completed=progress.models_done, total=progress.models_total)

        try:
            return at.settle([ident], lambda: at.client.ranking(ident), lambda r: r.ended, watch)
        except KeyboardInterrupt:
            if at.url is None:
                raise
            raise Interrupted(
                f"Interrupted. The ranking goes on at {at.url}:\n"
                f"  zooscout rankings follow {ident} --url {at.url}    waits for it\n"
                f"  zooscout rankings rm {ident} --url {at.url}        stops it and removes it"
            ) from None


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
