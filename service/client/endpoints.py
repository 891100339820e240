"""Every endpoint once, for both clients."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from service.client import outcomes as oc
from service.client import prescores as ps
from service.client import results as r
from service.client import webhooks as wh
from service.client.both import Both
from service.client.errors import ApiProblem
from service.client.finetunings import FinetuningEndpoints
from service.client.flows import Download, Flow, Progress, Upload, Wanted, ask, paged, tell, wait
from service.client.packing import packed
from service.datasets.names import Split
from service.datasets.schemas import VersionCreate
from service.models.schemas import ModelCreate, ModelFilter
from service.rankings.schemas import RankingCreate
from service.recommendations.model import Agreement, Recommendation


def add_model(model: ModelCreate, /) -> Flow[r.Model]:
    return ask(r.Model, "POST", "/v1/models", json=model.model_dump(exclude_none=True))


def model(ident: str, /) -> Flow[r.Model]:
    return ask(r.Model, "GET", f"/v1/models/{ident}")


def wait_for_model(ident: str, /, *, timeout_seconds: float | None = None) -> Flow[r.Model]:
    """Waits until a worker has proved the model's weights; its state is then `ready` or `failed`."""
    return wait(lambda: model(ident), lambda found: found.state != "unresolved", timeout_seconds)


def models(
    wanted: ModelFilter | None = None,
    /,
    *,
    limit: int = 100,
    cursor: str | None = None,
    sort: str = "name",
    descending: bool = False,
) -> Flow[r.Models]:
    query = (wanted or ModelFilter()).model_dump(exclude_none=True, exclude={"tags"})
    query["tag"] = [f"{key}={value}" for key, value in (wanted.tags if wanted else {}).items()]
    query |= paged(limit, cursor, sort=sort, descending=descending)
    return ask(r.Models, "GET", "/v1/models", params=query)


def start_import(source: str, /, *, name_glob: str = "*", prescore: bool = False) -> Flow[r.Import]:
    asked = {"source": source, "filter": name_glob, "prescore": prescore}
    return ask(r.Import, "POST", "/v1/models/import", json=asked)


def show_import(task_id: str, /) -> Flow[r.Import]:
    return ask(r.Import, "GET", f"/v1/models/import/{task_id}")


def import_models(
    source: str, /, *, name_glob: str = "*", prescore: bool = False, timeout_seconds: float | None = None
) -> Flow[r.Import]:
    """Imports cards of an installed registry, and waits for it. With `prescore` they are then scored, unwaited for."""
    accepted = yield from start_import(source, name_glob=name_glob, prescore=prescore)
    return (yield from wait(lambda: show_import(accepted.task_id), lambda f: f.state in r.ENDED, timeout_seconds))


def remove_model(ident: str, /) -> Flow[None]:
    return tell("DELETE", f"/v1/models/{ident}")


def release_model(ident: str, /) -> Flow[r.Model]:
    """Ends a model's quarantine: rankings try it again."""
    return ask(r.Model, "POST", f"/v1/models/{ident}/release")


def upload_dataset(
    path: str | Path,
    /,
    *,
    name: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    progress: Progress | None = None,
) -> Flow[r.Dataset]:
    """Streams an archive, a Parquet file or a folder (as a zip); `progress` hears (bytes sent, bytes in all).

    With `text_column` it is a CSV or Parquet file of texts, whose labels stand in `label_column`.
    """
    path = Path(path)
    with packed(path) as file:
        columns = {"text_column": text_column, "label_column": label_column}
        params = {"name": name or path.resolve().name} | {k: v for k, v in columns.items() if v is not None}
        return (yield from ask(r.Dataset, "POST", "/v1/datasets", upload=Upload(file, progress), params=params))


def make_version(
    parent: str, changes: VersionCreate | str | Path, /, *, name: str | None = None, progress: Progress | None = None
) -> Flow[r.Dataset]:
    """A dataset made from a sealed one: `changes`, or an archive (or a folder) whose images are added."""
    address = f"/v1/datasets/{parent}/versions"
    if isinstance(changes, VersionCreate):
        body = changes.model_copy(update={"name": name or changes.name})
        return (yield from ask(r.Dataset, "POST", address, json=body.model_dump(exclude_none=True)))
    with packed(Path(changes)) as file:
        params = {"name": name} if name else {}
        return (yield from ask(r.Dataset, "POST", address, upload=Upload(file, progress), params=params))


def dataset(ident: str, /) -> Flow[r.Dataset]:
    return ask(r.Dataset, "GET", f"/v1/datasets/{ident}")


def wait_for_dataset(
    ident: str, /, *, watch: Callable[[r.Dataset], None] | None = None, timeout_seconds: float | None = None
) -> Flow[r.Dataset]:
    """Waits until the dataset is sealed.

    Raises:
        ApiProblem: It was refused; the problem says what and where.
    """

    def look() -> Flow[r.Dataset]:
        found = yield from dataset(ident)
        if watch is not None:
            watch(found)
        return found

    found = yield from wait(look, lambda found: found.state != "checking", timeout_seconds)
    if found.state == "refused":
        raise ApiProblem(found.problem or {"title": "The dataset was refused"})
    return found


def datasets(*, limit: int = 50, cursor: str | None = None) -> Flow[r.Datasets]:
    return ask(r.Datasets, "GET", "/v1/datasets", params=paged(limit, cursor))


def remove_dataset(ident: str, /, *, purge: bool = False) -> Flow[None]:
    return tell("DELETE", f"/v1/datasets/{ident}", params={"purge": purge})


def start_inspection(dataset: str, model: str, /) -> Flow[r.Inspection]:
    return ask(r.Inspection, "POST", f"/v1/datasets/{dataset}/inspections", json={"model": model})


def inspection(ident: str, /) -> Flow[r.Inspection]:
    return ask(r.Inspection, "GET", f"/v1/inspections/{ident}")


def inspect(dataset: str, model: str, /, *, timeout_seconds: float | None = None) -> Flow[r.Inspection]:
    """Near-copies, leaks between splits and likely label errors by one model's embeddings; waits for the result."""
    asked = yield from start_inspection(dataset, model)
    return (yield from wait(lambda: inspection(asked.id), lambda f: f.state in r.ENDED, timeout_seconds))


def neighbours(dataset: str, image: str, /, *, model: str, k: int = 10) -> Flow[r.Neighbours]:
    """The images nearest to one, named by path or content hash, among those that the model has embedded."""
    params = {"image": image, "model": model, "k": k}
    return ask(r.Neighbours, "GET", f"/v1/datasets/{dataset}/neighbours", params=params)


def export_embeddings(
    dataset: str,
    model: str,
    path: str | Path,
    /,
    *,
    fmt: Literal["parquet", "npz"] = "parquet",
    split: Split | None = None,
) -> Flow[int]:
    """Writes content hash, path, label, split and features of every image to a file; returns its size."""
    query = {"model": model, "format": fmt} | ({"split": split} if split else {})
    size: int = yield Download(f"/v1/datasets/{dataset}/embeddings", query, Path(path))
    return size


def reference() -> Flow[r.Reference]:
    """Which dataset is the reference set.

    Raises:
        ApiProblem: None is; its type is `/problems/no-reference-set`.
    """
    return ask(r.Reference, "GET", "/v1/reference")


def set_reference(dataset: str, /) -> Flow[r.Reference]:
    return ask(r.Reference, "PUT", "/v1/reference", json={"dataset": dataset})


def clear_reference() -> Flow[None]:
    return tell("DELETE", "/v1/reference")


def create_ranking(request: RankingCreate, /) -> Flow[r.Ranking]:
    return ask(r.Ranking, "POST", "/v1/rankings", json=request.model_dump(mode="json", exclude_none=True))


def ranking(ident: str, /) -> Flow[r.Ranking]:
    return ask(r.Ranking, "GET", f"/v1/rankings/{ident}")


def rankings(*, limit: int = 50, cursor: str | None = None, dataset: str | None = None) -> Flow[r.Rankings]:
    return ask(r.Rankings, "GET", "/v1/rankings", params=paged(limit, cursor, dataset=dataset))


def wait_for_ranking(
    ident: str, /, *, watch: Callable[[r.Ranking], None] | None = None, timeout_seconds: float | None = None
) -> Flow[r.Ranking]:
    """Waits until the ranking has ended; `watch` hears every state on the way."""

    def look() -> Flow[r.Ranking]:
        found = yield from ranking(ident)
        if watch is not None:
            watch(found)
        return found

    return wait(look, lambda found: found.ended, timeout_seconds)


def cancel_ranking(ident: str, /) -> Flow[r.Ranking]:
    """Stops a ranking and keeps what was scored; one that has ended stays as it is."""
    return ask(r.Ranking, "POST", f"/v1/rankings/{ident}/cancel")


def remove_ranking(ident: str, /) -> Flow[None]:
    """Removes a ranking, and stops it if it runs."""
    return tell("DELETE", f"/v1/rankings/{ident}")


def upload_or_find(data: str | Path, /, **options: Any) -> Flow[r.Dataset]:
    """What `upload_dataset` makes of a file or folder; where there is none, the dataset of this id or name."""
    if Path(data).exists():
        return (yield from upload_dataset(data, **options))
    try:
        return (yield from dataset(str(data)))
    except ApiProblem as problem:
        if problem.status != 404:
            raise
        said = f"'{data}' is neither a file or folder of this machine nor a dataset that the service has."
        raise FileNotFoundError(said) from problem


def start_rank(
    data: str | Path,
    /,
    *,
    models: Wanted,
    estimators: Sequence[str] | None = None,
    ordered_by: str | None = None,
    budget: str | None = None,
    name: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    progress: Progress | None = None,
) -> Flow[r.Ranking]:
    """Uploads and asks for the ranking without waiting: `follow(ranking.id)` streams what happens to it.

    `data` is an archive, a Parquet file or a folder, with `text_column` a table of texts, or the id or name of a
    dataset. `models` is a glob over names, a list of ids or names, or a filter. `progress` hears of the upload.
    """
    columns = {"text_column": text_column, "label_column": label_column}
    uploaded = yield from upload_or_find(data, name=name, progress=progress, **columns)
    wanted = ModelFilter(name=models) if isinstance(models, str) else models
    request = RankingCreate(
        dataset=uploaded.id,
        models=wanted if isinstance(wanted, ModelFilter) else list(wanted),
        estimators=list(estimators) if estimators is not None else None,
        ordered_by=ordered_by,
        budget=budget,
    )
    return (yield from create_ranking(request))


def rank(
    data: str | Path,
    /,
    *,
    models: Wanted,
    estimators: Sequence[str] | None = None,
    ordered_by: str | None = None,
    budget: str | None = None,
    name: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    progress: Progress | None = None,
    watch: Callable[[r.Ranking], None] | None = None,
    timeout_seconds: float | None = None,
) -> Flow[r.Ranking]:
    """Upload, rank, wait: the whole job in one call, as `start_rank` takes it. `watch` hears every state on the way.

    Raises:
        FileNotFoundError: There is neither such a file nor such a dataset.
        ApiProblem: The dataset was refused, or the request was.
    """
    options: dict[str, Any] = {"estimators": estimators, "ordered_by": ordered_by, "name": name, "progress": progress}
    options |= {"budget": budget, "text_column": text_column, "label_column": label_column}
    asked = yield from start_rank(data, models=models, **options)
    found = yield from wait_for_ranking(asked.id, watch=watch, timeout_seconds=timeout_seconds)
    if found.state == "failed" and found.split is None:  # it was never planned: because of its dataset
        yield from wait_for_dataset(found.dataset.id)
    return found


def score(path: str | Path, /, *, estimators: Sequence[str] | None = None) -> Flow[r.Scoring]:
    """Scores features of your own (.npz or Parquet with `features` and `labels`), and waits for the result."""
    params = {"estimators": ",".join(estimators)} if estimators else {}
    asked = yield from ask(r.Scoring, "POST", "/v1/scores", upload=Upload(Path(path)), params=params)
    look = functools.partial(ask, r.Scoring, "GET", f"/v1/scores/{asked.id}")
    return (yield from wait(look, lambda found: found.state in r.ENDED, None))


def recommend(
    dataset: str,
    /,
    *,
    ranking: str | None = None,
    max_params: int | None = None,
    max_input_size: int | None = None,
    max_milliseconds: float | None = None,
    max_weights_bytes: int | None = None,
    max_forward_bytes: int | None = None,
    licence: str | None = None,
) -> Flow[Recommendation]:
    """Which model to fine-tune, by the dataset's newest finished ranking and by outcomes elsewhere."""
    given = {
        "ranking": ranking,
        "max_params": max_params,
        "max_input_size": max_input_size,
        "max_milliseconds": max_milliseconds,
        "max_weights_bytes": max_weights_bytes,
        "max_forward_bytes": max_forward_bytes,
        "licence": licence,
    }
    params = {name: value for name, value in given.items() if value is not None}
    return ask(Recommendation, "GET", f"/v1/datasets/{dataset}/recommendations", params=params)


def estimators_agreement() -> Flow[Agreement]:
    """How well each estimator and the recommendation have done on the project's outcomes so far."""
    return ask(Agreement, "GET", "/v1/estimators/agreement")


class Endpoints(FinetuningEndpoints):
    add_model = Both(add_model)
    model = Both(model)
    wait_for_model = Both(wait_for_model)
    models = Both(models)
    start_import = Both(start_import)
    import_models = Both(import_models)
    remove_model = Both(remove_model)
    release_model = Both(release_model)
    upload_dataset = Both(upload_dataset)
    make_version = Both(make_version)
    dataset = Both(dataset)
    wait_for_dataset = Both(wait_for_dataset)
    datasets = Both(datasets)
    remove_dataset = Both(remove_dataset)
    start_inspection = Both(start_inspection)
    inspection = Both(inspection)
    inspect = Both(inspect)
    neighbours = Both(neighbours)
    export_embeddings = Both(export_embeddings)
    reference = Both(reference)
    set_reference = Both(set_reference)
    clear_reference = Both(clear_reference)
    create_ranking = Both(create_ranking)
    ranking = Both(ranking)
    rankings = Both(rankings)
    wait_for_ranking = Both(wait_for_ranking)
    cancel_ranking = Both(cancel_ranking)
    remove_ranking = Both(remove_ranking)
    start_rank = Both(start_rank)
    rank = Both(rank)
    score = Both(score)
    recommend = Both(recommend)
    estimators_agreement = Both(estimators_agreement)
    add_outcome = Both(oc.add_outcome)
    import_outcomes = Both(oc.import_outcomes)
    outcome = Both(oc.outcome)
    outcomes = Both(oc.outcomes)
    start_prescore = Both(ps.start_prescore)
    show_prescore = Both(ps.show_prescore)
    prescore = Both(ps.prescore)
    prescores = Both(ps.prescores)
    pairs = Both(ps.pairs)
    remove_prescore = Both(ps.remove_prescore)
    changes = Both(ps.changes)
    start_signature = Both(ps.start_signature)
    signature = Both(ps.signature)
    sign = Both(ps.sign)
    add_webhook = Both(wh.add_webhook)
    webhooks = Both(wh.webhooks)
    remove_webhook = Both(wh.remove_webhook)
    ping_webhook = Both(wh.ping_webhook)
    deliveries = Both(wh.deliveries)
    delivery = Both(wh.delivery)
    redeliver = Both(wh.redeliver)
