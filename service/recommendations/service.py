"""A dataset's recommendation out of its newest finished ranking and of outcomes elsewhere."""

from collections.abc import Mapping
from dataclasses import replace

from sqlalchemy.orm import Session

from estimators.catalog import SPECS, Direction
from service.core.errors import InvalidRequest
from service.datasets import repository as datasets
from service.datasets.service import modality_of
from service.datasets.tables import DatasetRow
from service.models import repository as models
from service.models.repository import Brief
from service.models.schemas import ModelFilter
from service.rankings import repository as ranking_rows
from service.rankings import service as rankings
from service.rankings.schemas import EntryView, RankingView
from service.recommendations import gather
from service.recommendations.instant import similar_to
from service.recommendations.knowledge import PROBES, shipped
from service.recommendations.model import Constraints, EvidenceOf, FitOf, PriorOf, Recommendation
from service.recommendations.policy import Candidate, ordered, refusal, ties_in_words
from service.recommendations.priors import priors
from service.recommendations.together import Forecast, forecast
from service.scoring import repository as scoring
from zoo.catalog import Modality

MOST_CANDIDATES = 1000


def recommend(
    session: Session,
    project_id: str,
    ident: str,
    wanted: Constraints,
    /,
    *,
    ranking: str | None = None,
    evidence_chances: bool = True,
) -> Recommendation:
    """Of the ranking's models; of all the project's where the dataset has none that is done.

    `evidence_chances` says how likely each is the best by the evidence alone, for which every replicate is read; pages
    do not show it.
    """
    dataset = datasets.get(session, project_id, ident)
    view = _ranking(session, project_id, dataset, ranking)
    modality = modality_of(dataset)
    rows = _candidates(session, project_id, view, modality)
    entries = {entry.model_id: entry for entry in view.entries} if view else {}
    similar, likeness = similar_to(session, dataset)
    before = priors(session, project_id, dataset, rows, similar)
    seen = _evidence(view)
    replicates = _replicates(session, project_id, dataset, view) if evidence_chances else {}
    told = _forecast(session, project_id, dataset, view)
    expected, merit, ties = (told.expected, told.merit, told.tied_with) if told else ({}, {}, None)
    larger = view is None or SPECS[view.ordered_by].direction is Direction.HIGHER_IS_BETTER
    candidates = [
        Candidate(
            model=row.name,
            model_id=row.id,
            params=row.params,
            input_size=row.input_size,
            milliseconds=_milliseconds(entries.get(row.id)),
            forward_bytes=entries[row.id].forward_bytes if row.id in entries else None,
            licence=row.licence,
            evidence=seen.get(row.id),
            prior=before.get(row.name),
            expected=expected.get(row.name),
            merit=merit.get(row.name),
            tied_with=_tied(row, ties, entries),
            replicates=replicates.get(row.id, ()),
        )
        for row in rows
    ]
    left = {c.model for c in candidates if refusal(c, wanted, of=modality) is None}
    if told is not None and len(left) < len(candidates):
        chances = told.best_among(left)
        candidates = [
            replace(c, expected=replace(c.expected, probability_best=chances[c.model]))
            if c.expected is not None and c.model in chances
            else c
            for c in candidates
        ]
    found, excluded = ordered(candidates, wanted, larger_is_better=larger, of=modality)
    by_evidence = told is not None or any(entry.evidence for entry in found)
    ordered_at_all = any(entry.rank is not None for entry in found)
    return Recommendation(
        dataset=dataset.name,
        dataset_id=dataset.id,
        ranking=view.id if view else None,
        ordered_by=(told.fit.part if told else "evidence" if by_evidence else "prior") if ordered_at_all else "nothing",
        fit=told.fit if told else None,
        said=(
            *_said(by_evidence, view, ties_in_words(found, of=modality), told.fit if told else None),
            *((likeness,) if likeness and not by_evidence else ()),
        ),
        warnings=(
            *_warnings(by_evidence, before, similar, len(found), len(excluded)),
            *(told.warnings if told else ()),
        ),
        entries=tuple(found),
        excluded=tuple(excluded),
    )


def _ranking(session: Session, project_id: str, dataset: DatasetRow, ident: str | None) -> RankingView | None:
    if ident is not None:
        row = ranking_rows.get(session, project_id, ident)
        if row.dataset_id != dataset.id:
            raise InvalidRequest(f"Ranking {ident} is of another dataset than '{dataset.name}'.")
        if row.state != "done":
            raise InvalidRequest(f"Ranking {ident} is {row.state}: a recommendation needs one that is done.")
        return rankings.show_first(session, project_id, ident, first=0)
    done = gather.newest_ranking(session, project_id, dataset.id)
    return rankings.show_first(session, project_id, done.id, first=0) if done else None


def _forecast(session: Session, project_id: str, dataset: DatasetRow, view: RankingView | None) -> Forecast | None:
    if view is None or _partial(view):
        return None  # a sample's scores are no measure beside those of all images
    row = ranking_rows.get(session, project_id, view.id)
    scored = gather.scored(session, project_id, dataset, row, estimators={*PROBES, *shipped().estimators})
    return forecast(gather.known(session, project_id), scored, dataset.id, dataset.fingerprint)


def _tied(
    row: Brief, foretold: Mapping[str, tuple[str, ...]] | None, entries: Mapping[str, EntryView]
) -> tuple[str, ...]:
    if foretold is not None:
        return foretold.get(row.name, ())
    return tuple(entries[row.id].tied_with) if row.id in entries else ()


def _candidates(session: Session, project_id: str, view: RankingView | None, modality: Modality) -> list[Brief]:
    if view is not None:
        return list(models.briefs(session, project_id, [entry.model_id for entry in view.entries]).values())
    ids = models.matching_ids(session, project_id, ModelFilter(modality=modality), limit=MOST_CANDIDATES + 1)
    if len(ids) > MOST_CANDIDATES:
        raise InvalidRequest(
            f"The project has more than {MOST_CANDIDATES:,} models, and the dataset no finished ranking: rank some."
        )
    return list(models.briefs(session, project_id, ids).values())


def _evidence(view: RankingView | None) -> dict[str, EvidenceOf]:
    if view is None:
        return {}
    name = view.ordered_by
    sign = 1.0 if SPECS[name].direction is Direction.HIGHER_IS_BETTER else -1.0
    furthest = _furthest(view)
    scored = {
        e.model_id: e.scores[name]
        for e in view.entries
        if e.rank is not None and name in e.scores and furthest in {None, _looked_at(view, e.sample)}
    }
    values = {ident: score.value for ident, score in scored.items() if score.value is not None}
    mean = sum(values.values()) / max(len(values), 1)
    spread = (sum((value - mean) ** 2 for value in values.values()) / max(len(values), 1)) ** 0.5
    return {
        ident: EvidenceOf(
            estimator=name,
            value=value,
            stderr=scored[ident].stderr,
            deviations=sign * (value - mean) / spread if spread > 0 else None,
            probability_best=None,
        )
        for ident, value in values.items()
    }


def _furthest(view: RankingView) -> int | None:
    """The sample of a race's last rung: only scores of one size compare."""
    if view.race is None or view.race.images is None:  # there was nothing to embed, and no rung
        return None
    return max((_looked_at(view, entry.sample) or 0 for entry in view.entries if entry.rank is not None), default=0)


def _partial(view: RankingView) -> bool:
    """Whether it is a race that ended before all images."""
    return view.race is not None and _furthest(view) not in {None, view.race.images}


def _looked_at(view: RankingView, sample: int | None) -> int | None:
    """Images that scores of a race are of: all, where nothing was left to embed."""
    return sample if sample is not None or view.race is None else view.race.images


def _replicates(
    session: Session, project_id: str, dataset: DatasetRow, view: RankingView | None
) -> dict[str, tuple[float, ...]]:
    if view is None:
        return {}
    row = ranking_rows.get(session, project_id, view.id)
    pairs = {
        entry.model_id: rankings.pair_of(row, dataset.fingerprint or "", entry.extractor_id, sample=entry.sample)
        for entry in ranking_rows.read_entries(session, row.id)
        if entry.extractor_id is not None
        and entry.state == "done"
        and _furthest(view) in {None, _looked_at(view, entry.sample)}
    }
    stored = scoring.shown_scores(session, project_id, pairs, [row.ordered_by], diagnostics=False)
    return {ident: found[row.ordered_by].replicates for ident, found in stored.items() if row.ordered_by in found}


def _milliseconds(entry: EntryView | None) -> float | None:
    return 1000 / entry.images_per_second if entry and entry.images_per_second else None


def _said(by_evidence: bool, view: RankingView | None, ties: str | None, fit: FitOf | None) -> tuple[str, ...]:
    said = [ties] if ties else []
    if fit is not None:
        said.append(_how(fit))
        if better := _better_level(fit):
            said.append(better)
    elif by_evidence and view is not None and _partial(view):
        said.append(
            f"Ordered by the evidence alone ({view.ordered_by}): the race's scores are of {_furthest(view)} "
            f"{view.dataset.modality}s, and fine-tuned accuracy is foretold from scores of all of them."
        )
    elif by_evidence and view is not None:
        said.append(
            f"Ordered by the evidence alone ({view.ordered_by}): the ranking has no score from which fine-tuned "
            "accuracy is foretold, or too few outcomes are known. `linear_probe`, `lda` and `knn` are such scores."
        )
    else:
        said.append("Ordered by the prior alone: the dataset has no finished ranking with a score of these models.")
    return tuple(said)


def _how(fit: FitOf) -> str:
    learned = f"{fit.rows} fine-tuned models on {fit.datasets} other datasets ({fit.of_project} rows of the project)"
    if fit.check is None:
        return f"Ordered by the evidence alone, as learned from {learned}: too few to hold it against records."
    tau, n = fit.check.tau, fit.check.datasets
    together, halves = tau["together"], f"evidence alone {tau['evidence']:.2f}, records alone {tau['prior']:.2f}"
    if fit.part == "together":
        return (
            f"Ordered by evidence and records together, as learned from {learned}. Leaving each dataset out, weighted "
            f"tau is {together:.2f} ({halves}; {n} datasets)."
        )
    return (
        f"Ordered by the evidence alone, as learned from {learned}: together with records, weighted tau is "
        f"{together:.2f} on {n} datasets left out in turn, which does not beat both halves ({halves})."
    )


def _better_level(fit: FitOf) -> str | None:
    """Which score would tell the level of accuracy better than the one that it was taken from."""
    off = {name: of["check"]["absolute_error"] for name, of in shipped().about["fitted_on"].items() if of["check"]}
    if fit.level not in off:
        return None
    better = [name for name in PROBES if name in off and off[name] < off[fit.level]]
    if not better:
        return None
    named = " or ".join(f"`{name}` ({off[name]:.1f})" for name in better)
    return (
        f"Expected accuracies start from `{fit.level}`, by which they are off by {off[fit.level]:.1f} points on the "
        f"datasets that are known; a ranking with {named} would tell them better."
    )


def _warnings(
    by_evidence: bool, before: Mapping[str, PriorOf], similar: Mapping[str, float], n: int, left_out: int
) -> tuple[str, ...]:
    found = []
    if n == 0 and left_out:
        found.append("No model is left: loosen the constraints, or rank more models.")
    elif n == 0:
        found.append("There are no models: `zooscout models add` or `zooscout models import` brings some.")
    if before and not similar and not any(prior.basis == "target" for prior in before.values()):
        found.append(
            "Which of the datasets with outcomes are like this one is not known: models' records on all of them count "
            "alike."
        )
    unseen = sum(prior.basis == "names" for prior in before.values())
    if unseen and not by_evidence:
        found.append(
            f"{unseen} of {len(before)} models have no outcome anywhere: their prior is that of models of like names "
            "and cards: size, pretraining data, ImageNet accuracy."
        )
    return tuple(found)
