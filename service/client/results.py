"""What the service answers, as frozen dataclasses with the members of its JSON.

A member that a newer service adds is passed over; a test holds the names to those of the service's own schemas.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from service.client.errors import MissingExtra
from service.rankings.schemas import RankingView

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

ENDED = frozenset({"done", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Model:
    id: str
    name: str
    library: str
    architecture: str
    family: str | None
    params: int | None
    macs: int | None
    feature_dim: int | None
    input_size: int
    licence: str | None
    pretrained_on: str | None
    tags: Mapping[str, str]
    weights_sha256: str | None
    state: str
    error: str | None
    card: Mapping[str, Any]
    created_at: datetime
    quarantined_at: datetime | None = None
    quarantine_reason: str | None = None
    modality: str = "image"
    imagenet_top1: float | None = None


@dataclass(frozen=True, slots=True)
class Models:
    items: tuple[Model, ...]
    total: int
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Import:
    task_id: str
    state: str
    result: Mapping[str, Any]
    error: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class InspectionBrief:
    id: str
    model: str
    state: str
    found: Mapping[str, int] | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Dataset:
    id: str
    name: str
    state: str
    fingerprint: str | None
    n_images: int | None
    n_classes: int | None
    classes: tuple[str, ...] | None
    parent_id: str | None
    changes: Mapping[str, Any] | None
    report: Mapping[str, Any] | None
    inspections: tuple[InspectionBrief, ...]
    problem: Mapping[str, Any] | None
    progress: Mapping[str, Any]
    created_at: datetime
    sealed_at: datetime | None
    modality: str = "image"


@dataclass(frozen=True, slots=True)
class Datasets:
    items: tuple[Dataset, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Reference:
    dataset: str
    name: str
    fingerprint: str
    n_images: int
    set_at: datetime


@dataclass(frozen=True, slots=True)
class Inspection:
    id: str
    dataset_id: str
    dataset: str
    model_id: str
    model: str
    extractor_id: str | None
    state: str
    progress: Mapping[str, Any]
    result: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Image:
    path: str
    hash: str
    split: str
    label: str


@dataclass(frozen=True, slots=True)
class Neighbour:
    path: str
    hash: str
    split: str
    label: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Neighbours:
    dataset_id: str
    model: str
    extractor_id: str
    image: Image
    neighbours: tuple[Neighbour, ...]
    searched: int
    images: int
    exact: bool
    index: str


@dataclass(frozen=True, slots=True)
class Scoring:
    id: str
    state: str
    estimators: tuple[str, ...]
    scores: Mapping[str, Mapping[str, Any]]
    error: Mapping[str, Any] | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Score:
    value: float | None
    stderr: float | None
    diagnostics: Mapping[str, Any]
    degenerate: str | None
    seconds: float
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Text:
    """Which part of which encoder; `texts_cut` of the scored texts are longer than `max_length` tokens."""

    encoder: str
    pooling: str
    layer: int | None
    max_length: int | None
    texts_cut: int | None


@dataclass(frozen=True, slots=True)
class Entry:
    rank: int | None
    tied_with: tuple[str, ...]
    model: str
    model_id: str
    state: str
    scores: Mapping[str, Score]
    params: int | None
    feature_dim: int | None
    images_per_second: float | None
    error: str | None
    sample: int | None = None
    chance: float | None = None
    dropped: str | None = None
    text: Text | None = None
    forward_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Rung:
    sample: int
    candidates: int
    dropped: int
    left: int


@dataclass(frozen=True, slots=True)
class Race:
    budget: str
    images: int | None
    sample: int | None
    embedded_at_most: int
    rungs: tuple[Rung, ...]
    ended: str | None


@dataclass(frozen=True, slots=True)
class DatasetBrief:
    id: str
    name: str
    fingerprint: str | None
    n_images: int | None
    n_classes: int | None
    modality: str = "image"


@dataclass(frozen=True, slots=True)
class ReferenceBrief:
    id: str
    name: str | None
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Progress:
    models_done: int
    models_total: int
    images_embedded: int
    images_to_embed: int
    images_per_second: float | None
    seconds_left: float | None
    stage: str
    stage_seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RankingStatus:
    id: str
    state: str
    progress: Progress
    race: Race | None = None

    @property
    def ended(self) -> bool:
        return self.state in ENDED


@dataclass(frozen=True, slots=True)
class RankingBrief:
    id: str
    state: str
    dataset: DatasetBrief
    ordered_by: str
    n_models: int
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Rankings:
    items: tuple[RankingBrief, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Ranking:
    id: str
    state: str
    dataset: DatasetBrief
    split: str | None
    reference: ReferenceBrief | None
    estimators: tuple[str, ...]
    ordered_by: str
    progress: Progress
    entries: tuple[Entry, ...]
    error: Mapping[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    race: Race | None = None

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def best(self) -> Entry | None:
        """The first; `top` says which others cannot be told from it."""
        return next((entry for entry in self.entries if entry.rank == 1), None)

    @property
    def top(self) -> tuple[str, ...]:
        """The best model and every one that is within error of it, best first."""
        best = self.best
        if best is None:
            return ()
        return tuple(entry.model for entry in self.entries if entry.rank == 1 or entry.model in best.tied_with)

    def view(self) -> RankingView:
        """As the service's own pages and tables take it."""
        return RankingView.model_validate(self, from_attributes=True)

    def to_pandas(self) -> "pd.DataFrame":
        """One row a model, in order; for each estimator a column of values and one of standard errors.

        Raises:
            MissingExtra: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as missing:
            raise MissingExtra("Ranking.to_pandas()", "pandas", "notebook") from missing
        rows = []
        for entry in self.entries:
            row: dict[str, Any] = {"rank": entry.rank, "model": entry.model, "tied_with": ", ".join(entry.tied_with)}
            for name in self.estimators:
                score = entry.scores.get(name)
                row[name] = None if score is None else score.value
                row[f"{name}_stderr"] = None if score is None else score.stderr
            facts = ("params", "feature_dim", "images_per_second", "forward_bytes", "state", "error")
            rows.append(row | {fact: getattr(entry, fact) for fact in facts})
        frame = pd.DataFrame(rows)
        whole = {name: "Int64" for name in ("rank", "params", "feature_dim", "forward_bytes") if name in frame}
        numbers = {name: "float64" for est in self.estimators for name in (est, f"{est}_stderr") if name in frame}
        return frame.astype(whole | numbers)

    def plot(self, estimator: str | None = None) -> "go.Figure":
        """Scores with their errors, best at the top, and bars beside those that cannot be told apart."""
        try:
            import plotly.graph_objects as go
        except ImportError as missing:
            raise MissingExtra("Ranking.plot()", "plotly", "notebook") from missing
        from service.web.figures import ranking_figure

        return go.Figure(ranking_figure(self.view(), estimator=estimator))


@dataclass(frozen=True, slots=True)
class Webhook:
    id: str
    url: str
    events: tuple[str, ...]
    enabled: bool
    disabled_reason: str | None
    failing_since: datetime | None
    created_at: datetime
    secret: str | None = None  # when it has just been made, and never again


@dataclass(frozen=True, slots=True)
class Webhooks:
    items: tuple[Webhook, ...]


@dataclass(frozen=True, slots=True)
class Attempt:
    at: datetime
    milliseconds: int
    status: int | None
    error: str | None
    answer: str | None


@dataclass(frozen=True, slots=True)
class Delivery:
    id: str
    webhook_id: str
    event: str
    state: str
    attempts: tuple[Attempt, ...]
    next_attempt_at: datetime | None
    body: str
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Deliveries:
    items: tuple[Delivery, ...]
    next_cursor: str | None
