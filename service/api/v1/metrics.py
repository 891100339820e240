"""What Prometheus scrapes."""

from fastapi import APIRouter, Depends, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from service.api.deps import AppDep, ProjectDep, caller
from service.operation.metrics import OfDatabase

router = APIRouter(tags=["health"], dependencies=[Depends(caller)])


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(app: AppDep, project: ProjectDep) -> Response:
    """Of this process, its requests; of the whole service, queue, workers and store. Models are named for the caller's
    project alone. Where the service asks for keys, this does too, of any scope."""
    of_service = CollectorRegistry(auto_describe=False)
    of_service.register(OfDatabase(app.settings, app.database, project))
    body = generate_latest(app.measures.registry) + generate_latest(of_service)
    return Response(body, media_type=CONTENT_TYPE_PLAIN_0_0_4)
