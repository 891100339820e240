"""One table from domain errors to RFC 9457 problems."""

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, Field
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from starlette.exceptions import HTTPException

from estimators import errors as estimators
from service.api.deps import Remembered, shown
from service.api.once import AnsweredBefore
from service.core import errors as core
from service.core.db import is_passing
from service.datasets import errors as datasets
from service.embeddings import errors as embeddings
from service.idempotency import errors as idempotency
from service.keys import errors as keys
from service.models import errors as models
from service.outcomes import errors as outcomes
from service.rankings import errors as rankings
from service.scoring import errors as scoring
from service.web.contexts import ProblemPage
from service.web.rendering import render
from service.webhooks import errors as webhooks
from zoo import errors as zoo

log = structlog.get_logger(__name__)
MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_SECONDS = 5


class Problem(BaseModel):
    """RFC 9457."""

    type: str = Field(examples=["/problems/not-found"])
    title: str = Field(examples=["Not found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no dataset 'ds_01k0'."])
    instance: str | None = None
    errors: list[dict[str, Any]] = Field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Kind:
    slug: str
    title: str
    status: int


KINDS: dict[type[Exception], Kind] = {
    core.NotFound: Kind("not-found", "Not found", 404),
    core.Conflict: Kind("conflict", "Conflict with what is stored", 409),
    core.InvalidRequest: Kind("invalid-request", "The request cannot be carried out", 422),
    core.PreconditionFailed: Kind("precondition-failed", "It has changed since it was looked at", 412),
    core.LeaseLost: Kind("lease-lost", "The work was taken over", 409),
    core.Cancelled: Kind("cancelled", "The work was cancelled", 409),
    core.DatabaseUnavailable: Kind("database-unavailable", "The database does not answer now", 503),
    core.DiskFull: Kind("disk-full", "The disk is full", 503),
    core.SchemaOutdated: Kind("schema-outdated", "The database needs a migration", 503),
    keys.Unauthorized: Kind("unauthorized", "A valid API key is needed", 401),
    keys.Forbidden: Kind("forbidden", "The request is not allowed", 403),
    keys.TooManyRequests: Kind("too-many-requests", "The key asks too often", 429),
    keys.QuotaExceeded: Kind("quota-exceeded", "The project has no room for this", 413),
    keys.TooMuchQueued: Kind("too-much-queued", "The project has enough work waiting", 429),
    idempotency.KeyReused: Kind("idempotency-key-reused", "The Idempotency-Key belongs to another request", 422),
    idempotency.ShownOnce: Kind("shown-once", "The answer was given once and is kept nowhere", 409),
    embeddings.EmbeddingsMissing: Kind("embeddings-missing", "Embeddings are missing", 409),
    embeddings.SegmentDamaged: Kind("segment-damaged", "A stored segment is damaged", 500),
    embeddings.StoreUnreachable: Kind("store-unreachable", "The embedding store does not answer", 503),
    datasets.DatasetInUse: Kind("dataset-in-use", "The dataset is in use", 409),
    datasets.NoReferenceSet: Kind("no-reference-set", "There is no reference set", 404),
    models.ModelExists: Kind("model-exists", "The model is already registered", 409),
    models.ModelInUse: Kind("model-in-use", "The model is in use", 409),
    models.BadModelCard: Kind("bad-model-card", "The model's description does not hold together", 422),
    outcomes.BadOutcomes: Kind("bad-outcomes", "The CSV holds something that is no outcome", 422),
    webhooks.TooManyWebhooks: Kind("too-many-webhooks", "The project has all the webhooks it may have", 409),
    rankings.DatasetRefusedForRanking: Kind("dataset-was-refused", "The dataset was refused", 409),
    rankings.ReferenceNeeded: Kind("reference-needed", "The estimator needs a reference set", 422),
    scoring.BadArrays: Kind("bad-arrays", "The arrays cannot be scored", 422),
    scoring.NotComparable: Kind("not-comparable", "The models cannot be ordered by this estimator", 422),
    scoring.UnknownEstimator: Kind("unknown-estimator", "The estimator cannot be used", 422),
    estimators.InvalidInput: Kind("invalid-input", "The estimator does not take this input", 422),
    estimators.Degenerate: Kind("degenerate", "The score is not defined on this input", 422),
    zoo.BadCard: Kind("bad-card", "The model's card does not hold together", 422),
    zoo.UnknownArchitecture: Kind("unknown-architecture", "The library knows no such architecture", 422),
    zoo.WeightsNotFound: Kind("weights-not-found", "There are no weights there", 422),
    zoo.HubUnreachable: Kind("hub-unreachable", "The weights cannot be fetched now", 503),
    zoo.HashMismatch: Kind("hash-mismatch", "The weights are not the pinned ones", 422),
    zoo.UnsafeCheckpoint: Kind("unsafe-checkpoint", "The checkpoint could run code", 422),
    zoo.CorruptCheckpoint: Kind("corrupt-checkpoint", "The checkpoint is damaged", 422),
    zoo.WeightsMismatch: Kind("weights-mismatch", "The weights do not fit the architecture", 422),
    zoo.BadImage: Kind("bad-image", "The image cannot be decoded", 422),
    zoo.ExtractionFailed: Kind("extraction-failed", "The model gave no usable features", 422),
}

_TOO_LARGE = (datasets.TooLarge, datasets.TooManyEntries, datasets.CompressionBomb, datasets.ImageBomb)


def status_of(problem_type: str, /) -> int:
    """The status that belongs to a dataset refusal's type."""
    slug = problem_type.rpartition("/")[2]
    if slug == datasets.UnknownFormat.slug:
        return 415
    return 413 if slug in {leaf.slug for leaf in _TOO_LARGE} else 422


def kind_of(error: Exception, /) -> Kind:
    if isinstance(error, datasets.DatasetRefused):
        return Kind(error.slug, f"The dataset was refused: {error.slug.replace('-', ' ')}", status_of(error.slug))
    return KINDS[type(error)]


def problem_of(error: Exception, /, *, instance: str | None = None) -> Problem:
    kind = kind_of(error)
    return Problem(
        type=f"/problems/{kind.slug}", title=kind.title, status=kind.status, detail=str(error), instance=instance
    )


def respond(problem: Problem, /, *, request: Request, headers: Mapping[str, str] | None = None) -> Response:
    """As JSON, or as a page to who asked for a page."""
    if not request.url.path.startswith("/v1/") and "text/html" in request.headers.get("accept", ""):
        page = ProblemPage(title=problem.title, detail=problem.detail, status=problem.status)
        answer = render(request, "problem.html", page, status=problem.status)
        answer.headers.update(headers or {})
        return answer
    return JSONResponse(
        problem.model_dump(mode="json"),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=dict(headers) if headers else None,
    )


def _errors(details: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"at": "/".join(str(part) for part in d["loc"]), "detail": d["msg"]} for d in details]


def install_problem_handlers(app: FastAPI) -> None:
    @app.exception_handler(core.ServiceError)
    @app.exception_handler(estimators.EstimatorError)
    @app.exception_handler(zoo.ZooError)
    def on_known_error(request: Request, error: Exception) -> Response:
        if isinstance(error, keys.Unauthorized) and not request.url.path.startswith(("/v1/", "/metrics")):
            return RedirectResponse(f"/login?next={quote(request.url.path)}", status_code=303)
        headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, keys.Unauthorized) else None
        problem = problem_of(error, instance=request.url.path)
        if problem.status == 503:
            headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        return respond(problem, request=request, headers=headers)

    @app.exception_handler(AnsweredBefore)
    def on_answered_before(_request: Request, again: AnsweredBefore) -> Response:
        headers = {"Location": again.answer.location, "Idempotency-Replayed": "true"}
        return Response(again.answer.body, again.answer.status, headers, "application/json")

    @app.exception_handler(Remembered)
    async def on_remembered(_request: Request, known: Remembered) -> Response:  # `async`: takes no thread
        return shown(known.answer)

    @app.exception_handler(IntegrityError)
    def on_collision(request: Request, error: IntegrityError) -> Response:
        # Only PostgreSQL lets two writers meet: what one removed, the other was about to refer to.
        log.warning("request.collided", path=request.url.path, exc_info=error)
        met = core.Conflict("Another request changed what this one needs at the same moment: look again and retry.")
        return respond(problem_of(met, instance=request.url.path), request=request)

    @app.exception_handler(SQLAlchemyError)
    def on_database(request: Request, error: SQLAlchemyError) -> Response:
        if not is_passing(error):
            raise error
        log.warning("request.no_database", path=request.url.path, error=str(getattr(error, "orig", None) or error))
        away = core.DatabaseUnavailable(
            "The database is away, or was not done with this in time. Ask again after the seconds of Retry-After, a "
            "POST with the same Idempotency-Key, so that nothing is done twice."
        )
        return on_known_error(request, away)

    @app.exception_handler(OSError)
    def on_disk(request: Request, error: OSError) -> Response:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise error
        log.error("request.disk_full", path=request.url.path, file=error.filename)
        full = core.DiskFull(
            "The service's disk is full, and nothing of this was kept. Ask again after the seconds of Retry-After; its "
            "operator is to make room (`zooscout store gc`) or to give it more."
        )
        return on_known_error(request, full)

    @app.exception_handler(RequestValidationError)
    def on_invalid(request: Request, error: RequestValidationError) -> Response:
        found = _errors(error.errors())
        detail = "; ".join(f"{e['at']}: {e['detail']}" for e in found[:3])
        return respond(
            Problem(
                type="/problems/invalid-request",
                title="The request is not what this endpoint takes",
                status=422,
                detail=detail,
                instance=request.url.path,
                errors=found,
            ),
            request=request,
        )

    @app.exception_handler(HTTPException)
    def on_http(request: Request, error: HTTPException) -> Response:
        title = {404: "Not found", 405: "Method not allowed"}.get(error.status_code, "The request was refused")
        problem = Problem(
            type=f"/problems/http-{error.status_code}",
            title=title,
            status=error.status_code,
            detail=str(error.detail),
            instance=request.url.path,
        )
        return respond(problem, request=request, headers=error.headers)


def bug(request: Request, error: Exception, /, *, reference: str) -> Response:
    """What is answered to whatever no handler knows."""
    path = request.url.path
    log.error("request.failed", path=path, reference=reference, exc_info=error)
    return respond(
        Problem(
            type="/problems/internal",
            title="The service failed",
            status=500,
            detail=f"The service made a mistake; its log has the cause under {reference}.",
            instance=path,
        ),
        request=request,
    )
