"""Turns a ranking's request into tasks. Needs no torch: identities come from the cards."""

import math
from collections.abc import Mapping, Sequence

from sqlalchemy.orm import Session

from service.core.clock import utc_now
from service.datasets import repository as datasets
from service.datasets.names import Split
from service.datasets.tables import DatasetRow
from service.embeddings.precision import extractor_ids
from service.jobs import repository as jobs
from service.jobs.model import Priority, Task, TaskKind, TaskState
from service.models import repository as models
from service.models.service import why_skipped
from service.rankings import racing, repository
from service.rankings.cost import seconds_per_image
from service.rankings.pairs import pair_of
from service.rankings.planner import Candidate, group, n_shards, split_to_score
from service.rankings.race import Likely
from service.rankings.service import close_if_complete
from service.rankings.tables import EntryRow, RankingRow
from service.scoring import repository as scoring
from zoo.catalog import ModelCard

COST_STEPS = 20  # of a prescore's tasks: one for each doubling of their estimated seconds


def plan(
    session: Session,
    task: Task,
    ranking: RankingRow,
    dataset: DatasetRow,
    sizes: Mapping[Split, int],
    /,
    *,
    models_per_task: int,
    images_per_task: int,
    likely: Mapping[str, Likely],
) -> None:
    """Marks what is already scored, and queues a task for each group of models that is not, by shard of the images.

    `likely` has what is expected of a race's models before they have seen an image, by id.
    """
    split = split_to_score(sizes)
    ranking.split = split
    ranking.state = "running"
    ranking.started_at = ranking.started_at or utc_now()
    entries = {e.model_id: e for e in repository.entries(session, ranking.id) if e.state not in {"done", "failed"}}
    rows = models.by_ids(session, ranking.project_id, list(entries))
    cards = {ident: ModelCard.from_json(row.card) for ident, row in rows.items()}
    # Of an unresolved model, what it embeds to is known once a worker has its weights.
    pinned = {ident: (card, card.weights.sha256) for ident, card in cards.items() if card.weights.sha256 is not None}
    for ident, extractor in zip(pinned, extractor_ids(session, ranking.project_id, list(pinned.values())), strict=True):
        entries[ident].extractor_id = extractor
    pairs = {
        ident: pair_of(ranking, dataset.fingerprint or "", entry.extractor_id)
        for ident, entry in entries.items()
        if entry.extractor_id is not None
    }
    found = scoring.current_scores(session, ranking.project_id, pairs, ranking.estimators)
    to_compute = []
    for ident, entry in entries.items():
        if ident in pairs and found[ident].keys() == pairs[ident].evidence_ids(ranking.estimators).keys():
            entry.state = "done"
        elif (reason := why_skipped(rows[ident])) is not None:
            entry.state, entry.error = "failed", reason
        else:
            to_compute.append(Candidate(ident, cards[ident].signature, rows[ident].params))
    if ranking.race is not None and to_compute:
        wanted = [c.model_id for c in to_compute] + _race_again(entries)
        images, classes = sizes[split], dataset.n_classes or 1
        racing.begin(
            session,
            ranking,
            wanted,
            images=images,
            classes=classes,
            at_once=models_per_task,
            images_per_task=images_per_task,
            likely=likely,
        )
        to_compute = []
    shards = n_shards(sizes[split], images_per_task=images_per_task)
    workers = -(-jobs.workers_alive(session) // shards)
    seconds: dict[str, float | None] = {}
    if ranking.prescore_id is not None:
        seconds = seconds_per_image(session, ranking.project_id, [rows[c.model_id] for c in to_compute])
    for model_ids in group(to_compute, models_per_task=models_per_task, workers=workers):
        for shard in range(shards):
            # The reference set is embedded with the first.
            images = (sizes[split] + shards - 1 - shard) // shards + (not shard) * _reference_images(session, ranking)
            payload = {"models": model_ids, "images": images * len(model_ids), "prescore": ranking.prescore_id}
            jobs.enqueue(
                session,
                project_id=ranking.project_id,
                kind=TaskKind.EMBED,
                subject_id=ranking.id,
                payload=payload | ({"shard": shard, "shards": shards} if shards > 1 else {}),
                priority=priority_of(ranking, [seconds.get(ident) for ident in model_ids], images=images),
            )
    session.flush()
    jobs.finish(session, task, state=TaskState.DONE)
    close_if_complete(session, ranking, finishing_task=task.id)


def _race_again(entries: Mapping[str, EntryRow]) -> list[str]:
    """Those with scores of all images run as well: on a sample, the others are compared with them."""
    return [ident for ident, entry in entries.items() if entry.state == "done"]


def queue_scoring(session: Session, task: Task, ranking: RankingRow, /) -> None:
    """Queues the scoring of the models of which this task was the last shard. The caller holds the ranking's row."""
    waiting = {e.model_id for e in repository.entries(session, ranking.id) if e.state not in {"done", "failed"}}
    for other in jobs.tasks_of(session, ranking.id):
        if other.id != task.id and other.state in jobs.OPEN_STATES:
            waiting.difference_update(other.payload.get("models", ()))
    ready = [ident for ident in task.payload["models"] if ident in waiting]
    if ready:
        payload = {key: value for key, value in task.payload.items() if key != "shard"}
        per_model = task.payload["images"] // len(task.payload["models"]) * task.payload["shards"]
        jobs.enqueue(
            session,
            project_id=ranking.project_id,
            kind=TaskKind.EMBED,
            subject_id=ranking.id,
            payload=payload | {"models": ready, "images": 0, "to_score": per_model * len(ready), "tries": 0},
            priority=jobs.priority_of(session, task.id),
        )


def priority_of(ranking: RankingRow, seconds: Sequence[float | None], /, *, images: int) -> int:
    """What someone waits for goes first; of prescores, which may wait, the cheapest task of all datasets."""
    if ranking.prescore_id is None:
        return Priority.INTERACTIVE
    if None in seconds:
        return Priority.BATCH + COST_STEPS
    estimate = images * sum(each for each in seconds if each is not None)
    return Priority.BATCH + min(COST_STEPS, 1 + int(math.log2(max(estimate, 1.0))))


def _reference_images(session: Session, ranking: RankingRow) -> int:
    if ranking.reference_dataset_id is None:
        return 0
    return datasets.get(session, ranking.project_id, ranking.reference_dataset_id).n_images or 0
