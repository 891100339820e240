"""What a project may have stored and waiting, counted in the transaction that has just added to it."""

from sqlalchemy.orm import Session

from service.core.settings import QuotaSettings
from service.datasets import repository as datasets
from service.jobs import repository as jobs
from service.keys.errors import QuotaExceeded, TooMuchQueued
from service.keys.repository import lock_project


def check_tasks(session: Session, project_id: str, quotas: QuotaSettings, /) -> None:
    """Raises TooMuchQueued where the project has more work waiting than it may."""
    if quotas.queued_tasks is None:
        return
    lock_project(session, project_id)
    if jobs.count_open_of(session, project_id) > quotas.queued_tasks:
        raise TooMuchQueued(
            f"The project may have {quotas.queued_tasks:,} tasks waiting or at work, and has them: "
            "ask again when some are done."
        )


def check_uploads(session: Session, project_id: str, quotas: QuotaSettings, /) -> None:
    """Raises QuotaExceeded where the project's datasets bring more than they may."""
    if quotas.stored_bytes is None and quotas.images is None:
        return
    lock_project(session, project_id)
    has_bytes, has_images = datasets.brought(session, project_id)
    for has, cap, what in ((has_bytes, quotas.stored_bytes, "bytes"), (has_images, quotas.images, "images")):
        if cap is not None and has > cap:
            raise QuotaExceeded(
                f"With this upload the project's datasets would have brought {has:,} {what}, and {cap:,} are allowed: "
                "remove datasets (DELETE /v1/datasets/…), or ask whoever runs the service for more."
            )
