"""Fine-tuning models by a task. The task's row is its record; what it measures are outcomes, which outlive it."""

from sqlalchemy.orm import Session

from service.core.errors import InvalidRequest
from service.core.ids import new_id
from service.datasets import service as datasets
from service.finetunings.schemas import FinetuningCreate, FinetuningView
from service.jobs import repository as jobs
from service.jobs.model import Priority, TaskKind
from service.models import service as catalog


def request(session: Session, project_id: str, asked: FinetuningCreate, /) -> FinetuningView:
    """Raises Conflict where the dataset is not sealed, InvalidRequest where it or a model is not of images."""
    dataset = datasets.sealed(session, project_id, asked.dataset)
    if dataset.modality != "image":
        raise InvalidRequest(f"'{dataset.name}' holds texts: what is fine-tuned here are image models.")
    models = catalog.resolve_candidates(session, project_id, asked.models, modality="image")
    ident = new_id("ft")
    jobs.enqueue(
        session,
        project_id=project_id,
        kind=TaskKind.FINETUNE,
        subject_id=ident,
        payload={
            "dataset_id": dataset.id,
            "dataset": dataset.name,
            "model_ids": [row.id for row in models],
            "models": [row.name for row in models],
            "recipe": asked.recipe,
            "budget_seconds": asked.budget_seconds,
            "images": dataset.n_images or 0,
        },
        priority=Priority.BATCH,
    )
    session.flush()
    return show(session, project_id, ident)


def show(session: Session, project_id: str, ident: str, /) -> FinetuningView:
    task = jobs.task_of(session, project_id, ident, kind=TaskKind.FINETUNE)
    said = ("dataset", "dataset_id", "models", "recipe", "budget_seconds")
    return FinetuningView.model_validate(
        {
            "id": ident,
            "state": task.state,
            **{name: task.payload[name] for name in said},
            "plan": task.progress.get("plan"),
            "progress": task.progress.get("progress", {}),
            "results": task.progress.get("results", []),
            "error": task.error,
        }
    )


def remove(session: Session, project_id: str, ident: str, /) -> None:
    """Stops it where it is at work, and forgets it; what it has measured stays."""
    jobs.task_of(session, project_id, ident, kind=TaskKind.FINETUNE)
    jobs.cancel_subject(session, ident)
    jobs.delete_subject(session, ident)
