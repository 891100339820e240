"""What each page is given: one dataclass a page, whose every field its template uses, and no other."""

from dataclasses import dataclass
from typing import Any

from estimators.catalog import EstimatorSpec
from service.datasets.samples import ClassSample
from service.datasets.schemas import DatasetView, ReferenceView
from service.inspections.schemas import InspectionView, MapView, NeighboursView
from service.jobs.model import Queue, WorkerView
from service.keys.schemas import KeyView
from service.models.schemas import ModelFilter, ModelView
from service.outcomes.schemas import OutcomeView
from service.prescores.schemas import ChangeView, PairView, PrescoreView
from service.rankings.cost import Cost
from service.rankings.schemas import EntryView, RankingBrief, RankingStatus, RankingView
from service.rankings.standings import Standing
from service.recommendations.model import Agreement as RecordSoFar
from service.recommendations.model import Constraints, Recommendation, Recommended
from service.web.words import Agreement
from service.webhooks.schemas import WebhookView


class Page:
    """Base of what a template is given as `page`."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Frame:
    """What every page is given besides, as `frame`."""

    path: str
    query: str
    theme: str | None  # None: as the system has it
    csrf: str
    signed_in: bool
    may_write: bool
    admin: bool


@dataclass(frozen=True, slots=True)
class HomePage(Page):
    datasets: list[DatasetView]
    rankings: list[RankingBrief]
    n_models: int
    workers: list[WorkerView]
    queue: Queue


@dataclass(frozen=True, slots=True)
class DatasetsPage(Page):
    datasets: list[DatasetView]
    following: str | None  # cursor of the next page
    reference: ReferenceView | None


@dataclass(frozen=True, slots=True)
class DatasetPage(Page):
    dataset: DatasetView
    samples: list[ClassSample]
    texts: dict[str, str]  # how each begins, by content hash; none of images
    only: str | None  # the class that is shown alone
    versions: list[DatasetView]  # made from it
    inspections: list[InspectionView]  # the newest of each model
    shown: int  # rows of each of their lists
    rankings: list[RankingBrief]
    outcomes: list[OutcomeView]
    models: list[str]  # names to choose from
    working: bool  # something of it is under way


@dataclass(frozen=True, slots=True)
class NeighboursPage(Page):
    dataset: DatasetView
    image: str
    texts: dict[str, str]  # how each begins, by content hash; none of images
    models: list[str]  # names to choose from
    asked: list[str]
    found: list[NeighboursView]
    problems: list[str]


@dataclass(frozen=True, slots=True)
class MapPage(Page):
    dataset: DatasetView
    models: list[str]  # names to choose from
    asked: str
    found: MapView | None
    figure: dict[str, Any] | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class NewRankingPage(Page):
    datasets: list[DatasetView]
    dataset: str | None
    wanted: ModelFilter
    named: str  # models by name, one a line; these alone where there are any
    n_models: int
    first: list[str]  # of the models that match
    cost: Cost | None
    panel: list[EstimatorSpec]
    chosen: list[str]
    ordered_by: str
    budget: str  # as it was typed
    budget_said: str | None  # in words
    problem: str | None  # what is wrong with the budget
    has_reference: bool


@dataclass(frozen=True, slots=True)
class RankingsPage(Page):
    rankings: list[RankingBrief]
    following: str | None  # cursor of the next page


@dataclass(frozen=True, slots=True)
class RankingPage(Page):
    ranking: RankingView
    running: bool
    entries: list[EntryView]  # the first ones, or all
    left: int  # how many more there are
    words: list[str]
    compared: bool  # whether estimators can be held against each other
    figures: list[dict[str, Any]]  # each with its title, what it shows in words, and Plotly's JSON
    by: str  # the estimator of the figures
    snippet: str | None  # how to load the first model, once there is one
    snippet_of: str | None


@dataclass(frozen=True, slots=True)
class RankingRowsPage(Page):
    """Rows of a ranking's table that its page fetches once it is shown."""

    ranking: RankingView
    entries: list[EntryView]


@dataclass(frozen=True, slots=True)
class AgreementPage(Page):
    ranking: RankingStatus
    agreement: Agreement | None


@dataclass(frozen=True, slots=True)
class RecommendationPage(Page):
    dataset: DatasetView
    found: Recommendation
    entries: list[Recommended]  # the first ones, or all
    left: int  # how many more there are
    asked: str  # the constraints as a query
    wanted: Constraints
    figure: dict[str, Any] | None  # expected accuracy against time, where there is both


@dataclass(frozen=True, slots=True)
class RecommendationRowsPage(Page):
    """Rows of a recommendation's table that its page fetches once it is shown."""

    entries: list[Recommended]


@dataclass(frozen=True, slots=True)
class ReportPage(Page):
    """A ranking on one sheet that needs no other file."""

    ranking: RankingView
    words: list[str]
    marks: list[dict[str, Any]]
    style: str
    snippet: str | None
    snippet_of: str | None


@dataclass(frozen=True, slots=True)
class ModelsPage(Page):
    models: list[ModelView]
    wanted: ModelFilter
    total: int
    sort: str
    descending: bool
    following: str | None  # cursor of the next page
    address: str  # of this list without sort and cursor


@dataclass(frozen=True, slots=True)
class ModelPage(Page):
    model: ModelView
    snippet: str
    record: list[Standing]  # in the newest ranking of each dataset that it has ended in
    earlier: str | None  # ranking before which the record goes on
    outcomes: list[OutcomeView]


@dataclass(frozen=True, slots=True)
class PrescoresPage(Page):
    prescores: list[tuple[PrescoreView, str]]  # each with what was asked for, in words
    following: str | None  # cursor of the next page


@dataclass(frozen=True, slots=True)
class PrescorePage(Page):
    prescore: PrescoreView
    meant: str  # what was asked for, in words
    running: bool
    counts: list[tuple[str, int]]  # pairs by state
    pairs: list[PairView]
    state: str | None  # of the pairs that are shown; None: of any
    following: str | None  # cursor of the next page


@dataclass(frozen=True, slots=True)
class ChangesPage(Page):
    changes: list[ChangeView]
    following: str | None  # cursor of the next page


@dataclass(frozen=True, slots=True)
class EstimatorsPage(Page):
    groups: list[tuple[str, list[EstimatorSpec]]]  # by what they need
    panel: list[str]
    record: RecordSoFar  # against the outcomes recorded here


@dataclass(frozen=True, slots=True)
class SettingsPage(Page):
    keys: list[KeyView]
    secret: tuple[str, str] | None  # of what was just made: what it is of, and the secret
    webhooks: list[WebhookView]
    events: list[str]
    workers: list[WorkerView]
    queue: Queue
    quarantined: list[ModelView]


@dataclass(frozen=True, slots=True)
class LoginPage(Page):
    target: str  # where to go afterwards
    refused: str | None


@dataclass(frozen=True, slots=True)
class ProblemPage(Page):
    title: str
    detail: str
    status: int
