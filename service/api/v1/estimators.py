"""The table of estimators."""

from fastapi import APIRouter
from pydantic import BaseModel

from estimators.catalog import SPECS
from service.scoring.panel import DEFAULT_PANEL

router = APIRouter(tags=["estimators"])


class EstimatorView(BaseModel):
    name: str
    version: int
    title: str
    summary: str
    needs: list[str]
    tasks: list[str]
    direction: str
    comparable_across_width: bool
    states_error: bool
    default: bool
    reference: str


class EstimatorList(BaseModel):
    items: list[EstimatorView]


@router.get("/estimators", summary="List estimators")
def list_estimators() -> EstimatorList:
    return EstimatorList(
        items=[
            EstimatorView(
                name=spec.name,
                version=spec.version,
                title=spec.title,
                summary=spec.summary,
                needs=sorted(spec.needs),
                tasks=sorted(spec.tasks),
                direction=spec.direction,
                comparable_across_width=spec.comparable_across_width,
                states_error=spec.states_error,
                default=spec.name in DEFAULT_PANEL,
                reference=spec.reference,
            )
            for spec in SPECS.values()
        ]
    )
