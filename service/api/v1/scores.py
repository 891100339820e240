"""Scoring one's own features."""

import asyncio
import re
import time
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from sqlalchemy.orm import Session

from service.api.bodies import received
from service.api.deps import App, AppDep, ProjectDep
from service.api.once import Made, Once, OnceDep
from service.api.quotas import check_tasks
from service.datasets.uploads import Upload
from service.scoring import service as scoring
from service.scoring.panel import OWN_FEATURES_PANEL, chosen
from service.scoring.schemas import ScoringView

router = APIRouter(tags=["scores"])
MAX_WAIT_SECONDS = 60.0
POLL_SECONDS = 0.1
_PREFER_WAIT = re.compile(r"(?:^|[,;\s])wait=(\d{1,4})(?:$|[,;\s])")
_BODY = {
    "requestBody": {
        "required": True,
        "description": "an .npz (no pickles) or Parquet with features [N, D] and labels [N] or [N, K]; optional: "
        "source_probs, background_mean, background_std, reference_features, text_prototypes",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.post(
    "/scores",
    status_code=202,
    summary="Score your own features",
    openapi_extra=_BODY,
    responses={200: {"model": ScoringView, "description": "Ready within the time that Prefer: wait gave"}},
)
async def score_features(
    request: Request,
    response: Response,
    app: AppDep,
    project: ProjectDep,
    once: OnceDep,
    estimators: Annotated[
        str | None,
        Query(max_length=1000, description=f"comma-separated, or all; {', '.join(OWN_FEATURES_PANEL)} if unset"),
    ] = None,
    prefer: Annotated[str | None, Header(max_length=200, description="wait=SECONDS")] = None,
) -> ScoringView:
    """Computed by a worker. With `Prefer: wait=30` the answer is the result, if it is ready by then."""
    names = chosen(estimators.split(",") if estimators else None, default=OWN_FEATURES_PANEL)
    upload = await received(request, app.settings)
    view = await run_in_threadpool(_accept, app, project, once, upload, names)
    wanted = _PREFER_WAIT.search(prefer or "")
    if wanted:
        seconds = min(float(wanted[1]), MAX_WAIT_SECONDS)
        response.headers["Preference-Applied"] = f"wait={seconds:.0f}"
        deadline = time.monotonic() + seconds
        while view.state == "queued" and time.monotonic() < deadline:
            await asyncio.sleep(POLL_SECONDS)
            view = await run_in_threadpool(show_scores, app, project, view.id)
    response.status_code = 202 if view.state == "queued" else 200
    return view


def _accept(app: App, project: str, once: Once, upload: Upload, names: list[str]) -> ScoringView:
    from service.scoring.arrays import check_file  # NumPy, which nothing else here needs

    def act(session: Session) -> Made[ScoringView]:
        view = scoring.request(session, project, upload.path, names)
        check_tasks(session, project, app.settings.quotas)
        return Made(view, 202, f"/v1/scores/{view.id}")

    try:
        once.look_back(upload.sha256)
        check_file(upload.path, max_bytes=app.settings.scoring.max_array_bytes)
        return once.do(upload.sha256, act)
    except BaseException:
        upload.path.unlink(missing_ok=True)
        raise


@router.get("/scores/{scoring_id}", summary="Scores of your own features")
def show_scores(app: AppDep, project: ProjectDep, scoring_id: str) -> ScoringView:
    with app.database.read() as session:
        return scoring.show(session, project, scoring_id)
