"""Stored scores."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import case, delete, literal, null, select
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


# Columns of the table, not rows of the mapper: a ranking of 500 models has 10,000 of them.
_C = ScoreRow.__table__.c


def current_scores(
    session: Session,
    project_id: str,
    pairs: Mapping[str, Pair],
    estimators: Sequence[str],
    /,
    *,
    replicates_of: Collection[str] | None = None,
    diagnostics: bool = True,
) -> dict[str, dict[str, StoredScore]]:
    """For each named pair, the stored scores of today's versions of these estimators.

    `replicates_of` names those whose replicates are read (None: all): of thousands of scores they take the longest,
    and after them their diagnostics.
    """
    versions = {name: SPECS[name].version for name in estimators if name in SPECS}
    return of_versions(session, project_id, pairs, versions, replicates_of=replicates_of, diagnostics=diagnostics)


def shown_scores(
    session: Session,
    project_id: str,
    pairs: Mapping[str, Pair],
    estimators: Sequence[str],
    /,
    *,
    replicates_of: Collection[str] | None = None,
    diagnostics: bool = True,
) -> dict[str, dict[str, StoredScore]]:
    """The same, but of `shown_versions`."""
    versions = shown_versions(session, project_id, pairs, estimators)
    return of_versions(session, project_id, pairs, versions, replicates_of=replicates_of, diagnostics=diagnostics)


def shown_versions(
    session: Session, project_id: str, pairs: Mapping[str, Pair], estimators: Sequence[str], /
) -> dict[str, int]:
    """Of each estimator the newest version that all pairs with a score have: a ranking that ended keeps its numbers.

    Scores of two versions of an estimator are not comparable, so that one version goes for all.
    """
    wanted = {name: pair.evidence_ids(estimators) for name, pair in pairs.items()}
    held: dict[str, set[int]] = {}
    for _, estimator, version in _read(session, project_id, wanted, estimators, (_C.version,), distinct=True):
        held.setdefault(estimator, set()).add(version)
    versions = {estimator: min(of) for estimator, of in held.items()}
    several = [estimator for estimator, of in held.items() if len(of) > 1]
    by_evidence: dict[tuple[str, str], set[int]] = {}
    if several:
        for ident, estimator, version in _read(session, project_id, wanted, several, (_C.version,)):
            by_evidence.setdefault((ident, estimator), set()).add(version)
    for estimator in several:
        of_pairs = [by_evidence.get((ids.get(estimator, ""), estimator), set()) for ids in wanted.values()]
        del versions[estimator]
        if common := set.intersection(*(found for found in of_pairs if found)):
            versions[estimator] = max(common)
    return versions


def of_versions(
    session: Session,
    project_id: str,
    pairs: Mapping[str, Pair],
    versions: Mapping[str, int],
    /,
    *,
    replicates_of: Collection[str] | None = None,
    diagnostics: bool = True,
) -> dict[str, dict[str, StoredScore]]:
    """For each named pair, the stored scores of these versions of estimators."""
    wanted = {name: pair.evidence_ids(versions) for name, pair in pairs.items()}
    further = list(versions if replicates_of is None else replicates_of)
    columns: list[Any] = [_C.value, _C.stderr, _C.degenerate, _C.seconds]
    columns.append(_C.diagnostics if diagnostics else null())
    columns.append(case((_C.estimator.in_(further), _C.replicates)) if further else null())
    on: dict[tuple[str, str], StoredScore] = {}
    for ident, estimator, version, *kept, found, left_out in _read(
        session, project_id, wanted, list(versions), (_C.version, *columns)
    ):
        if versions[estimator] == version:
            value, stderr, degenerate, seconds = kept
            on[ident, estimator] = StoredScore(
                estimator,
                version,
                DEFAULT_PARAMS_ID,
                value,
                stderr,
                degenerate,
                seconds,
                found or {},
                tuple(left_out or ()),
            )
    return {
        name: {estimator: on[ident, estimator] for estimator, ident in ids.items() if (ident, estimator) in on}
        for name, ids in wanted.items()
    }


def values_of(
    session: Session, project_id: str, pairs: Mapping[str, Pair], versions: Mapping[str, int], /
) -> dict[str, dict[str, float]]:
    """For each estimator, the values of the pairs that have one: a tenth of the time of whole scores."""
    wanted = {name: pair.evidence_ids(versions) for name, pair in pairs.items()}
    names: dict[str, list[str]] = {}
    for name, ids in wanted.items():
        for ident in set(ids.values()):
            names.setdefault(ident, []).append(name)
    found: dict[str, dict[str, float]] = {estimator: {} for estimator in versions}
    columns = (_C.version, _C.value)
    for ident, estimator, version, value in _read(session, project_id, wanted, list(versions), columns):
        if value is not None and versions[estimator] == version:
            found[estimator] |= dict.fromkeys(names[ident], value)
    return found


def _read(
    session: Session,
    project_id: str,
    wanted: Mapping[str, Mapping[str, str]],
    estimators: Sequence[str],
    columns: Sequence[Any],
    *,
    distinct: bool = False,
) -> Iterator[Any]:
    """Evidence (empty where distinct rows do), estimator and these columns of each stored score."""
    ordered = sorted({ident for ids in wanted.values() for ident in ids.values()})
    session.flush()  # no row of the mapper is read, so that nothing else does it
    for start in range(0, len(ordered), AT_ONCE):
        query = select(literal("") if distinct else _C.evidence_id, _C.estimator, *columns).where(
            _C.project_id == project_id,
            _C.evidence_id.in_(ordered[start : start + AT_ONCE]),
            _C.estimator.in_(estimators),
            _C.params_id == DEFAULT_PARAMS_ID,
        )
        yield from session.connection().execute(query.distinct() if distinct else query)


def record(session: Session, scores: Sequence[StoredScore], pair: Pair, /, *, project_id: str) -> None:
    """Keeps what is new; a score that is already there stays. One without its evidence is no score and is not kept."""
    evidence = pair.evidence_ids(score.estimator for score in scores)
    query = select(ScoreRow.evidence_id, ScoreRow.estimator, ScoreRow.version, ScoreRow.params_id).where(
        ScoreRow.project_id == project_id, ScoreRow.evidence_id.in_(sorted(set(evidence.values())))
    )
    known = {tuple(row) for row in session.execute(query)}
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
