"""Stored scores."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import case, delete, select, true
from sqlalchemy.orm import Session

from estimators.catalog import SPECS
from service.core.clock import utc_now
from service.core.errors import NotFound
from service.core.ids import new_id
from service.scoring.evidence import DEFAULT_PARAMS_ID, Pair
from service.scoring.tables import ScoreRow, ScoringRow

AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class StoredScore:
    """A score as it is kept: either a value, or the reason why there is none."""

    estimator: str
    version: int
    params_id: str
    value: float | None
    stderr: float | None
    degenerate: str | None
    seconds: float
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    replicates: tuple[float, ...] = ()


# As columns, not as rows of the mapper: a ranking of 500 models has 10,000 of them.
_KEPT = (
    ScoreRow.estimator,
    ScoreRow.version,
    ScoreRow.params_id,
    ScoreRow.value,
    ScoreRow.stderr,
    ScoreRow.degenerate,
    ScoreRow.seconds,
    ScoreRow.diagnostics,
)


def current_scores(
    session: Session,
    project_id: str,
    pairs: Mapping[str, Pair],
    estimators: Sequence[str],
    /,
    *,
    replicates_of: Collection[str] | None = None,
) -> dict[str, dict[str, StoredScore]]:
    """For each named pair, the stored scores of today's versions of these estimators.

    `replicates_of` names those whose replicates are read (None: all): of thousands of scores they take the longest.
    """
    versions = {name: SPECS[name].version for name in estimators if name in SPECS}
    return _of_versions(_stored_on(session, project_id, pairs, estimators, replicates_of), versions)


def shown_scores(
    session: Session,
    project_id: str,
    pairs: Mapping[str, Pair],
    estimators: Sequence[str],
    /,
    *,
    replicates_of: Collection[str] | None = None,
) -> dict[str, dict[str, StoredScore]]:
    """The same, but of the newest version that all pairs with a score have: a ranking that ended keeps its numbers.

    Scores of two versions of an estimator are not comparable, so that one version goes for all.
    """
    stored = _stored_on(session, project_id, pairs, estimators, replicates_of)
    versions: dict[str, int] = {}
    for estimator in estimators:
        held = [found for by_name in stored.values() if (found := set(by_name.get(estimator, {})))]
        if common := set.intersection(*held) if held else set():
            versions[estimator] = max(common)
    return _of_versions(stored, versions)


def _stored_on(
    session: Session,
    project_id: str,
    pairs: Mapping[str, Pair],
    estimators: Sequence[str],
    replicates_of: Collection[str] | None,
) -> dict[str, dict[str, dict[int, StoredScore]]]:
    """By pair, estimator and version."""
    wanted = {name: pair.evidence_ids(estimators) for name, pair in pairs.items()}
    on: dict[tuple[str, str], dict[int, StoredScore]] = {}
    evidence = {i for ids in wanted.values() for i in ids.values()}
    for ident, score in _scores_on(session, project_id, evidence, replicates_of):
        if score.params_id == DEFAULT_PARAMS_ID:
            on.setdefault((ident, score.estimator), {})[score.version] = score
    return {
        name: {estimator: on[ident, estimator] for estimator, ident in ids.items() if (ident, estimator) in on}
        for name, ids in wanted.items()
    }


def _of_versions(
    stored: Mapping[str, Mapping[str, Mapping[int, StoredScore]]], versions: Mapping[str, int]
) -> dict[str, dict[str, StoredScore]]:
    return {
        name: {estimator: of[versions[estimator]] for estimator, of in by_name.items() if versions.get(estimator) in of}
        for name, by_name in stored.items()
    }


def _scores_on(
    session: Session, project_id: str, evidence_ids: set[str], replicates_of: Collection[str] | None
) -> Iterator[tuple[str, StoredScore]]:
    ordered = sorted(evidence_ids)
    wanted = true() if replicates_of is None else ScoreRow.estimator.in_(replicates_of)
    columns: Sequence[Any] = (*_KEPT, case((wanted, ScoreRow.replicates)))
    for start in range(0, len(ordered), AT_ONCE):
        query = select(ScoreRow.evidence_id, *columns).where(
            ScoreRow.project_id == project_id, ScoreRow.evidence_id.in_(ordered[start : start + AT_ONCE])
        )
        for ident, *kept, found in session.execute(query):
            yield ident, StoredScore(*kept, tuple(found or ()))  # type: ignore[call-arg]


def record(session: Session, scores: Sequence[StoredScore], pair: Pair, /, *, project_id: str) -> None:
    """Keeps what is new; a score that is already there stays. One without its evidence is no score and is not kept."""
    evidence = pair.evidence_ids(score.estimator for score in scores)
    stored = _scores_on(session, project_id, set(evidence.values()), ())
    known = {(ident, s.estimator, s.version, s.params_id) for ident, s in stored}
    for score in scores:
        ident = evidence.get(score.estimator)
        if ident is None or (ident, score.estimator, score.version, score.params_id) in known:
            continue
        session.add(
            ScoreRow(
                id=new_id("sc"),
                project_id=project_id,
                evidence_id=ident,
                fingerprint=pair.fingerprint,
                extractor_id=pair.extractor_id,
                estimator=score.estimator,
                version=score.version,
                params_id=score.params_id,
                value=score.value,
                stderr=score.stderr,
                replicates=list(score.replicates),
                diagnostics=dict(score.diagnostics),
                degenerate=score.degenerate,
                seconds=score.seconds,
                created_at=utc_now(),
            )
        )


def delete_for_fingerprint(session: Session, project_id: str, fingerprint: str, /) -> None:
    session.execute(delete(ScoreRow).where(ScoreRow.project_id == project_id, ScoreRow.fingerprint == fingerprint))


def add_scoring(session: Session, project_id: str, estimators: Sequence[str], /) -> ScoringRow:
    row = ScoringRow(
        id=new_id("so"), project_id=project_id, estimators=list(estimators), state="queued", created_at=utc_now()
    )
    session.add(row)
    session.flush()
    return row


def get_scoring(session: Session, project_id: str, ident: str, /) -> ScoringRow:
    row = session.get(ScoringRow, ident)
    if row is None or row.project_id != project_id:
        raise NotFound("scoring", ident)
    return row
