"""A ranking within a budget, rung by rung: what is asked of workers next, and what has come of the last rung.

Everything is decided in the transaction that ends a rung's last task, so that a race outlives whoever works on it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from estimators.catalog import SPECS, Direction
from service.core.budget import Budget, budget_from
from service.datasets import repository as datasets
from service.jobs import repository as jobs
from service.jobs.model import TaskKind
from service.models import repository as models
from service.rankings import repository
from service.rankings.cost import first_rung, seconds_per_image
from service.rankings.pairs import pair_of
from service.rankings.planner import n_shards
from service.rankings.race import TOP_K, Likely, Standing, Verdict, in_turn, judge, rungs
from service.rankings.schemas import RaceView, RungView
from service.rankings.tables import EntryRow, RankingRow
from service.scoring import repository as scoring

LEAST_GROWTH = 0.1  # of a sample: less is not worth a rung
PANEL = ("logme", "knn")  # a reference set would cost more images than a rung
OUT_OF_TIME = "the budget's time was over before its turn came"


def begin(
    session: Session,
    ranking: RankingRow,
    model_ids: Sequence[str],
    /,
    *,
    images: int,
    classes: int,
    at_once: int,
    images_per_task: int,
    likely: Mapping[str, Likely],
) -> None:
    """Queues the first rung, the cheapest and likeliest first; one that the budget does not reach is told so.

    `likely` has what is expected of models before they have seen an image, by id.
    """
    budget = budget_of(ranking)
    rows = models.by_ids(session, ranking.project_id, list(model_ids))
    costs = seconds_per_image(session, ranking.project_id, list(rows.values()))
    by_name = {ident: costs[ident] for ident in sorted(rows, key=lambda i: rows[i].name)}
    first = in_turn(by_name, likely, k=_wanted(len(rows)))
    race: dict[str, Any] = {
        "images": images,
        "sizes": rungs(images, classes),
        "at_once": at_once,
        "images_per_task": images_per_task,
        "history": [],
        "spent": 0,
        "ended": None,
        "deadline": None if budget.seconds is None else repository.now(session) + budget.seconds,
    }
    reached, size = first_rung(len(first), images, classes, budget)
    if reached < len(first):
        beyond = first[reached:]
        first = first[:reached]
        for entry in repository.entries(session, ranking.id):
            if entry.model_id in beyond:
                entry.state, entry.error = "failed", f"The budget ends before its first {size} images."
    ranking.race = race
    if first:
        _queue_rung(session, ranking, first, size=size, step=size)


def advance(session: Session, ranking: RankingRow, /) -> bool:
    """Judges the rung that has just ended; False where the race is over. The caller holds the ranking's row lock."""
    race = dict(ranking.race or {})
    if not race.get("history") or race["ended"] is not None:
        return False
    rung = race["history"][-1]
    size: int = rung["sample"]
    running = [entry for entry in repository.entries(session, ranking.id) if _in_race(entry)]
    reached = [entry for entry in running if entry.sample == size]
    before = race["history"][-2]["sample"] if len(race["history"]) > 1 else None
    verdict, unjudged = _judged(session, ranking, reached, size=size, before=before, images=race["images"])
    by_id = {entry.model_id: entry for entry in reached}
    for model_id, chance in (*verdict.kept, *verdict.dropped):
        by_id[model_id].chance = chance
    for model_id, chance in verdict.dropped:
        by_id[model_id].dropped = (
            f"after {size:,} of {race['images']:,} images: its chance to be among the first "
            f"{_wanted(len(reached))} on all of them is {chance:.1%}"
        )
    left = [model_id for model_id, _ in verdict.kept] + unjudged
    race["spent"] += rung["step"] * rung["candidates"]
    race["history"] = [
        *race["history"][:-1],
        rung | {"dropped": len(verdict.dropped), "left": len(left) + len(running) - len(reached)},
    ]
    ended = _ended(left, size=size, race=race, all_reached=len(reached) == len(running))
    following = None if ended else _next_size(session, ranking, left, size=size, race=race)
    race["ended"] = ended or (None if following is not None else "budget")
    ranking.race = race
    if following is None:
        return False
    _queue_rung(session, ranking, left, size=following, step=following - size)
    return True


def _in_race(entry: EntryRow) -> bool:
    return entry.state == "done" and entry.dropped is None


def _wanted(candidates: int) -> int:
    return TOP_K if candidates > TOP_K else 1


def _judged(
    session: Session,
    ranking: RankingRow,
    entries: Iterable[EntryRow],
    /,
    *,
    size: int,
    before: int | None,
    images: int,
) -> tuple[Verdict, list[str]]:
    """The verdict on those with a score; a sample may be too small for one, and then nothing is held against it."""
    fingerprint = datasets.get(session, ranking.project_id, ranking.dataset_id).fingerprint or ""
    extractors = {entry.model_id: entry.extractor_id for entry in entries if entry.extractor_id is not None}
    name = ranking.ordered_by
    sign = 1.0 if SPECS[name].direction is Direction.HIGHER_IS_BETTER else -1.0

    def stored(sample: int) -> dict[str, scoring.StoredScore]:
        pairs = {i: pair_of(ranking, fingerprint, extractor, sample=sample) for i, extractor in extractors.items()}
        found = scoring.current_scores(session, ranking.project_id, pairs, [name])
        return {i: scores[name] for i, scores in found.items() if name in scores}

    now, earlier = stored(size), {} if before is None else stored(before)
    standings = []
    for ident, score in now.items():
        if score.value is not None:
            then = earlier.get(ident)
            value = None if then is None or then.value is None else sign * then.value
            replicates = tuple(sign * each for each in score.replicates)
            standings.append(Standing(model_id=ident, value=sign * score.value, replicates=replicates, before=value))
    judged = {standing.model_id for standing in standings}
    verdict = judge(standings, sample=size, before=before, images=images, k=_wanted(len(standings)))
    return verdict, [ident for ident in extractors if ident not in judged]


def _ended(left: Sequence[str], /, *, size: int, race: Mapping[str, Any], all_reached: bool) -> str | None:
    if size >= race["images"]:
        return "all images"
    if not all_reached:
        return "budget"
    candidates = race["history"][0]["candidates"]
    return "decided" if len(left) <= _wanted(candidates) and candidates > 1 else None


def _next_size(
    session: Session, ranking: RankingRow, left: Sequence[str], /, *, size: int, race: Mapping[str, Any]
) -> int | None:
    """The next rung's sample, smaller than planned where the budget asks for it; None where too little is left."""
    wanted = next((each for each in race["sizes"] if each > size), race["images"])
    budget = budget_of(ranking)
    step = wanted - size
    if budget.images is not None:
        step = min(step, (budget.images - race["spent"]) // max(1, len(left)))
    if budget.seconds is not None:
        rows = models.by_ids(session, ranking.project_id, list(left))
        costs = seconds_per_image(session, ranking.project_id, list(rows.values()))
        each = sum(cost or 0.0 for cost in costs.values()) / max(1, jobs.workers_alive(session))
        seconds = race["deadline"] - repository.now(session)
        step = min(step, int(seconds / each) if each > 0 else step)
    return size + step if step >= max(1.0, LEAST_GROWTH * size) or (step > 0 and size + step == wanted) else None


def _queue_rung(session: Session, ranking: RankingRow, ordered: Sequence[str], /, *, size: int, step: int) -> None:
    """In their order: where the budget runs out amid a rung, the first have had their turn."""
    race = dict(ranking.race or {})
    rung = {"sample": size, "step": step, "candidates": len(ordered), "dropped": 0, "left": len(ordered)}
    race["history"] = [*race["history"], rung]
    ranking.race = race
    repository.set_entries(session, ranking.id, list(ordered), state="waiting")
    shards = n_shards(size, images_per_task=race.get("images_per_task", size))
    workers = max(1, -(-jobs.workers_alive(session) // shards))
    at_once = max(1, min(race["at_once"], -(-len(ordered) // workers)))
    for start in range(0, len(ordered), at_once):
        members = list(ordered[start : start + at_once])
        for shard in range(shards):
            images = (size + shards - 1 - shard) // shards
            payload = {"models": members, "images": images * len(members), "sample": size}
            jobs.enqueue(
                session,
                project_id=ranking.project_id,
                kind=TaskKind.EMBED,
                subject_id=ranking.id,
                payload=payload | ({"shard": shard, "shards": shards} if shards > 1 else {}),
            )


def budget_of(ranking: RankingRow, /) -> Budget:
    return budget_from(ranking.request["budget"])


def out_of_time(session: Session, ranking: RankingRow, model_ids: Sequence[str], /) -> bool:
    """Whether time is over; the models then keep the scores of the rung before, if they have any."""
    deadline = (ranking.race or {}).get("deadline")
    if deadline is None or repository.now(session) < deadline:
        return False
    for entry in repository.entries(session, ranking.id):
        if entry.model_id in model_ids and entry.state not in {"done", "failed"}:
            done = entry.sample is not None
            entry.state, entry.error = ("done", None) if done else ("failed", f"Skipped, for {OUT_OF_TIME}.")
    return True


def view(row: RankingRow, /) -> RaceView | None:
    if row.race is None:
        return None
    history = row.race.get("history", [])
    return RaceView(
        budget=row.request["budget"],
        images=row.race.get("images"),
        sample=history[-1]["sample"] if history else None,
        embedded_at_most=sum(rung["step"] * rung["candidates"] for rung in history),
        rungs=[RungView.model_validate(rung) for rung in history],
        ended=row.race.get("ended"),
    )
