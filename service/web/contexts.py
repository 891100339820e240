"""What each page is given: one dataclass a page."""

from dataclasses import dataclass

from service.datasets.schemas import DatasetView
from service.inspections.schemas import InspectionView
from service.rankings.schemas import EntryView, RankingBrief, RankingView


@dataclass(frozen=True, slots=True)
class HomePage:
    datasets: list[DatasetView]
    rankings: list[RankingBrief]
    n_models: int
    workers: int


@dataclass(frozen=True, slots=True)
class RankingPage:
    ranking: RankingView
    running: bool
    entries: list[EntryView]
    snippet: str | None  # how to load the first model, once there is one


@dataclass(frozen=True, slots=True)
class DatasetPage:
    dataset: DatasetView
    versions: list[DatasetView]  # made from it
    inspections: list[InspectionView]  # the newest of each model
    shown: int  # rows of each of their lists
    rankings: list[RankingBrief]


@dataclass(frozen=True, slots=True)
class LoginPage:
    target: str  # where to go afterwards
    refused: str | None
