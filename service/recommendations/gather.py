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
from service.outcomes import service as outcomes
from service.outcomes.schemas import OutcomeView
from service.rankings import repository as ranking_rows
from service.rankings import service as rankings
from service.rankings.tables import RankingRow
from service.recommendations.knowledge import Pair, Place, pairs_of, shipped
from service.recommendations.published import published
from service.scoring import repository as scoring

LOOK_BACK = 100
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
    scored: Scored | None
    outcomes: tuple[OutcomeView, ...]

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

    def pairs(self, *, without: Sequence[str] = ()) -> list[Pair]:
        """With an outcome, of the project and shipped; `without` names datasets by id or fingerprint."""
        ours = [p for own in self.own if own.dataset_id not in without for p in own.pairs]
        held = shipped()
        theirs = [p for p in held.pairs if held.seen.get(p.dataset, {}).get("fingerprint") not in without]
        return [p for p in (*theirs, *ours) if p.accuracy is not None]

    def places(self, *, without: Sequence[str] = ()) -> list[Place]:
        """Of outcomes that no scores go with."""
        found = list(self.elsewhere)
        for own in self.own:
            if own.dataset_id not in without:
                held = own.scored.scores if own.scored else {}
                found += [Place(own.key, o.model, o.accuracy) for o in own.outcomes if o.model not in held]
        return found


def known(session: Session, project_id: str, /) -> Known:
    of_datasets: dict[tuple[str, str], list[OutcomeView]] = defaultdict(list)
    elsewhere = [Place(f"{k.pool}, {k.dataset}", k.model, k.accuracy) for k in published()]
    newest: datetime | None = None
    for outcome in outcomes.every(session, project_id):
        newest = outcome.created_at if newest is None else max(newest, outcome.created_at)
        if outcome.dataset_id is None:
            elsewhere.append(Place(f"project, {outcome.recipe}, {outcome.dataset}", outcome.model, outcome.accuracy))
        else:
            of_datasets[outcome.dataset_id, outcome.recipe].append(outcome)
    for ident in dict.fromkeys(ident for ident, _ in of_datasets):
        recipes = {recipe: of_one for (of, recipe), of_one in of_datasets.items() if of == ident}
        most = max(recipes, key=lambda recipe: len(recipes[recipe]))
        for recipe in recipes.keys() - {most}:
            del of_datasets[ident, recipe]
    rows = datasets.by_ids(session, project_id, list(dict.fromkeys(ident for ident, _ in of_datasets)))
    kept = list(rows.values())[-MOST_DATASETS:]
    seen = {row.id: scored(session, project_id, row) for row in kept}
    own = tuple(
        Own(f"{ident}, {recipe}", ident, seen.get(ident), tuple(of_one))
        for (ident, recipe), of_one in of_datasets.items()
    )
    return Known(own, tuple(elsewhere), newest)


def newest_ranking(session: Session, project_id: str, dataset_id: str, /) -> RankingRow | None:
    """That is done."""
    page = ranking_rows.list_page(session, project_id, limit=LOOK_BACK, cursor=None, dataset_id=dataset_id)
    return next((row for row in page.items if row.state == "done"), None)


def scored(
    session: Session,
    project_id: str,
    dataset: DatasetRow,
    /,
    *,
    ranking: RankingRow | None = None,
    estimators: Collection[str] | None = None,
) -> Scored | None:
    """The scores of the dataset's newest finished ranking, or of the one given; by these estimators alone, if named."""
    row = ranking or newest_ranking(session, project_id, dataset.id)
    if row is None:
        return None
    entries = [entry for entry in ranking_rows.read_entries(session, row.id) if entry.state == "done"]
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
