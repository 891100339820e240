"""What happens to a ranking, as it happens."""

import hashlib
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header
from fastapi.sse import EventSourceResponse, ServerSentEvent

from service.api.deps import AppDep, ProjectDep
from service.rankings import service as rankings
from service.rankings.repository import ENDED

router = APIRouter(tags=["rankings"])


def _known(app: AppDep, project: ProjectDep, ranking: str) -> str:
    """Before the stream begins, while the answer can still be a 404."""
    with app.database.read() as session:
        return rankings.progress_of(session, project, ranking).id


@router.get(
    "/rankings/{ranking}/events",
    response_class=EventSourceResponse,
    summary="Follow a ranking as server-sent events",
)
async def follow_ranking(
    app: AppDep,
    project: ProjectDep,
    ident: Annotated[str, Depends(_known)],
    last_event_id: Annotated[str | None, Header()] = None,
) -> AsyncIterator[ServerSentEvent]:
    """`progress` events with the state and the progress, then one `done`, and the stream ends.

    An event's id names what it says: whoever comes back with `Last-Event-ID` hears what has changed since, at once.
    """
    async for state in app.followers.follow(project, ident):
        said = state.model_dump_json()
        event_id = hashlib.sha256(said.encode()).hexdigest()[:16]
        ended = state.state in ENDED
        if event_id != last_event_id or ended:
            yield ServerSentEvent(raw_data=said, event="done" if ended else "progress", id=event_id)
        if ended:
            return
