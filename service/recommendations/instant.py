"""An answer before any candidate has run: the prior, weighed by what a small model finds the dataset to be like."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from service.core.errors import Conflict
from service.datasets import repository as datasets
from service.datasets.service import modality_of
from service.datasets.tables import DatasetRow
from service.jobs import repository as jobs
from service.jobs.model import Priority, TaskKind, TaskState
from service.models import repository as models
from service.models.schemas import ModelFilter
from service.models.tables import ModelRow
from service.recommendations.similar import in_words
from zoo.catalog import Modality

LOCAL = 1_000


class SimilarView(BaseModel):
    dataset: str
    dataset_id: str
    similarity: float = Field(description="1: the same place; about 0.6: as near as the median of the known datasets")


class SignatureView(BaseModel):
    dataset_id: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    model: str | None = Field(description="the small model that looks at the images")
    images: int | None
    similar: list[SimilarView] = Field(description="the datasets of the project that are most like it, nearest first")
    known: int | None = Field(description="datasets that it was compared with")
    seconds: float | None
    error: dict[str, Any] | None


def reference_model(session: Session, project_id: str, wanted: str | None, /, *, modality: Modality) -> ModelRow:
    """The one that is set, or the smallest whose weights have been here; it reads what the dataset holds.

    Raises:
        Conflict: There is none.
    """
    if wanted is not None:
        row = models.get(session, project_id, wanted)
        if models.modality_of(row) == modality:
            return row
    page = models.list_page(
        session,
        project_id,
        ModelFilter(state="ready", modality=modality),
        sort="params",
        descending=False,
        limit=LOCAL,
        cursor=None,
    )
    found = next((row for row in page.items if row.weights_sha256 is not None and row.quarantined_at is None), None)
    if found is None:
        raise Conflict(
            f"No model that reads {modality}s has been here yet: add one (`zooscout models add`), or rank with it."
        )
    return found


def request(session: Session, project_id: str, ident: str, /, *, model: str | None, images: int) -> SignatureView:
    """Asks a worker to look at the dataset; where one has, or is about to, nothing is asked again.

    It is compared anew once another dataset has been looked at: of what is embedded, nothing is embedded again.
    """
    dataset = datasets.get(session, project_id, ident)
    if dataset.state == "refused":
        raise Conflict(f"Dataset '{dataset.name}' was refused, so that nothing can be looked at.")
    found = find(session, dataset.id)
    outdated = (
        found is not None and found.state == "done" and jobs.outdone(session, project_id, TaskKind.SIGN, dataset.id)
    )
    if found is not None and not outdated and found.state not in {"failed", "cancelled"}:
        return found
    row = reference_model(session, project_id, model, modality=modality_of(dataset))
    jobs.enqueue(
        session,
        project_id=project_id,
        kind=TaskKind.SIGN,
        subject_id=dataset.id,
        payload={"model": row.id, "images": images},
        priority=Priority.CONTROL,  # seconds, for which someone waits
    )
    session.flush()
    return find(session, dataset.id) or SignatureView.model_validate(_view(dataset.id, TaskState.QUEUED, {}, None))


def find(session: Session, dataset_id: str, /, *, done: bool = False) -> SignatureView | None:
    """The last time it was asked for; the last that was answered with `done`."""
    tasks = [task for task in jobs.tasks_of(session, dataset_id) if task.kind is TaskKind.SIGN]
    tasks = [task for task in tasks if task.state is TaskState.DONE] if done else tasks
    if not tasks:
        return None
    last = tasks[-1]
    return SignatureView.model_validate(_view(dataset_id, last.state, last.progress, last.error))


def _view(
    dataset_id: str, state: TaskState, result: Mapping[str, Any], error: Mapping[str, Any] | None
) -> dict[str, Any]:
    done = result if state is TaskState.DONE else {}
    return {
        "dataset_id": dataset_id,
        "state": state.value,
        "model": done.get("model"),
        "images": done.get("images"),
        "similar": done.get("similar", []),
        "known": done.get("known"),
        "seconds": done.get("seconds"),
        "error": None if error is None else dict(error),
    }


def similar_to(session: Session, dataset: DatasetRow, /) -> tuple[dict[str, float], str | None]:
    """Similarity by dataset id, and the same in words; nothing where nobody has looked yet."""
    found = find(session, dataset.id, done=True)
    if found is None:
        return {}, None
    nearest = [(s.dataset, s.similarity) for s in found.similar]
    words = in_words(nearest, found.model or "", found.images or 0, of=modality_of(dataset))
    return {s.dataset_id: s.similarity for s in found.similar}, words
