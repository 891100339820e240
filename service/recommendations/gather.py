"""What a project knows: the scores of its rankings, its outcomes, and what ships with the package."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from estimators.catalog import SPECS, Direction
from service.datasets import repository as datasets
from service.datasets.tables import DatasetRow
from service.models import repository as models
from service.outcomes.schemas import OutcomeView
from service.rankings import repository as ranking_rows
from service.rankings import service as rankings
from service.rankings.repository import Entry
from service.rankings.tables import RankingRow
from service.recommendations.knowledge import Pair, Place, pairs_of, shipped
from service.recommendations.published import published
from service.recommendations.tied import tied_outcomes
from service.scoring import repository as scoring

LOOK_BACK = 100
FITTED_FROM = 10
"""Of a dataset's rankings the newest: of these, the one that scored most of the fine-tuned models is learned from."""
MOST_DATASETS = 200
"""With outcomes, the newest: what is fitted at once stays small."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One ranking's scores, larger is better."""

    ranking: str
    scores: Mapping[str, Mapping[str, float]]  # by model's name and estimator
    params: Mapping[str, int | None]


@dataclass(frozen=True, slots=True)
class Own:
    """A dataset of the project with its outcomes by one recipe: accuracies of two do not compare."""

    key: str
    dataset_id: str
    fingerprint: str | None
    scored: Scored | None
    outcomes: tuple[OutcomeView, ...]

    def among(self, named: Sequence[str], /) -> bool:
        """Whether one of these ids or fingerprints is its own."""
        return self.dataset_id in named or self.fingerprint in named

    @property
    def pairs(self) -> list[Pair]:
        if self.scored is None:
            return []
        accuracy = {o.model: o.accuracy for o in self.outcomes}
        n_test = {o.model: o.n_test for o in self.outcomes}
        return pairs_of(self.key, self.scored.scores, self.scored.params, accuracy=accuracy, n_test=n_test)


@dataclass(frozen=True, slots=True)
class Known:
    own: tuple[Own, ...]
    elsewhere: tuple[Place, ...]  # without scores
    newest: datetime | None  # outcome of the project
    outcomes: int  # of the project, by whatever recipe and on whatever dataset

    def pairs(self, *, without: Sequence[str] = ()) -> list[Pair]:
        """With an outcome, of the project and shipped; `without` names datasets by id or fingerprint."""
        ours = [p for own in self.own if not own.among(without) for p in own.pairs]
        held = shipped()
        theirs = [p for p in held.pairs if held.seen.get(p.dataset, {}).get("fingerprint") not in without]
        return [p for p in (*theirs, *ours) if p.accuracy is not None]

    def places(self, *, without: Sequence[str] = ()) -> list[Place]:
        """Of outcomes that no scores go with."""
        found = list(self.elsewhere)
        for own in self.own:
            if not own.among(without):
                held = own.scored.scores if own.scored else {}
                found += [Place(own.key, o.model, o.accuracy) for o in own.outcomes if o.model not in held]
        return found


def known(session: Session, project_id: str, /) -> Known:
    of_datasets: dict[str, dict[str, list[OutcomeView]]] = defaultdict(lambda: defaultdict(list))
    elsewhere = [Place(f"{k.pool}, {k.dataset}", k.model, k.accuracy) for k in published()]
    newest: datetime | None = None
    outcomes = tied_outcomes(session, project_id)
    for outcome in outcomes:
        newest = outcome.created_at if newest is None else max(newest, outcome.created_at)
        if outcome.dataset_id is None:
            place = f"project, {outcome.recipe}, {outcome.fingerprint or outcome.dataset}"
            elsewhere.append(Place(place, outcome.model, outcome.accuracy))
        else:
            of_datasets[outcome.dataset_id][outcome.recipe].append(outcome)
    rows = datasets.by_ids(session, project_id, sorted(of_datasets)[-MOST_DATASETS:])
    prints = datasets.fingerprints(session, project_id)
    copies: dict[str, list[str]] = defaultdict(list)
    for copy, of_copy in prints.items():
        copies[of_copy].append(copy)
    own = []
    for ident, recipes in of_datasets.items():
        recipe, held = max(recipes.items(), key=lambda item: len(item[1]))
        fingerprint = prints.get(ident)
        seen = None
        if ident in rows:
            same = copies[fingerprint] if fingerprint is not None else [ident]
            ranking = _most_telling(session, project_id, same, {o.model_id for o in held if o.model_id is not None})
            seen = None if ranking is None else scored(session, project_id, rows[ident], ranking)
        own.append(Own(f"{ident}, {recipe}", ident, fingerprint, seen, tuple(held)))
    return Known(tuple(own), tuple(elsewhere), newest, len(outcomes))


def _most_telling(
    session: Session, project_id: str, dataset_ids: Sequence[str], models: Collection[str], /
) -> RankingRow | None:
    """Of the newest rankings that are done, the one that scored most of these models on all images."""
    done: list[RankingRow] = []
    for ident in dataset_ids:
        page = ranking_rows.list_page(session, project_id, limit=LOOK_BACK, cursor=None, dataset_id=ident)
        done += [row for row in page.items if row.state == "done"][:FITTED_FROM]
    best: tuple[int, RankingRow] | None = None
    for row in sorted(done, key=lambda row: row.id, reverse=True)[:FITTED_FROM]:
        told = {entry.model_id for entry in _whole(session, row)} & set(models)
        if best is None or len(told) > best[0]:
            best = len(told), row
        if len(told) == len(models):
            break
    return None if best is None else best[1]


def _whole(session: Session, row: RankingRow) -> list[Entry]:
    """Entries with scores of all images: in a race some may have gone less far, and those compare with none."""
    images = (row.race or {}).get("images")
    done = [entry for entry in ranking_rows.read_entries(session, row.id) if entry.state == "done"]
    return [entry for entry in done if entry.sample in (None, images)]


def newest_ranking(session: Session, project_id: str, dataset_id: str, /) -> RankingRow | None:
    """That is done."""
    page = ranking_rows.list_page(session, project_id, limit=LOOK_BACK, cursor=None, dataset_id=dataset_id)
    return next((row for row in page.items if row.state == "done"), None)


def scored(
    session: Session,
    project_id: str,
    dataset: DatasetRow,
    row: RankingRow,
    /,
    *,
    estimators: Collection[str] | None = None,
) -> Scored:
    """A ranking's scores of all images; by these estimators alone, if named."""
    entries = _whole(session, row)
    pairs = {
        entry.model_id: rankings.pair_of(row, dataset.fingerprint or "", entry.extractor_id, sample=entry.sample)
        for entry in entries
        if entry.extractor_id is not None
    }
    rows = models.briefs(session, project_id, list(pairs))
    names = [n for n in row.estimators if n in SPECS and (estimators is None or n in estimators)]
    versions = scoring.shown_versions(session, project_id, pairs, names)
    values = scoring.values_of(session, project_id, pairs, {n: versions[n] for n in names if n in versions})
    signs = {n: 1.0 if SPECS[n].direction is Direction.HIGHER_IS_BETTER else -1.0 for n in names}
    found = {
        brief.name: {name: signs[name] * of[ident] for name, of in values.items() if ident in of}
        for ident, brief in rows.items()
    }
    return Scored(
        row.id,
        {model: of_model for model, of_model in found.items() if of_model},
        {row.name: row.params for row in rows.values()},
    )
