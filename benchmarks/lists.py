"""How long every list and read of the API takes in a database of 10,000 models × 1,000 datasets × 20 estimators.

    python -m benchmarks.lists [--folder FOLDER]

Both databases; times are of the service's own functions, which make the views as well as ask the database. The plans
of every statement (EXPLAIN ANALYZE on PostgreSQL) go to benchmarks/lists/. Exit code 1 where a statement is slower
than 50 ms at its median.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import event, text
from sqlalchemy.orm import Session

from benchmarks.seeding import DEFAULT_PROJECT, Size, arguments, ident, seeded, size_of
from service.core.db import Database
from service.datasets import reference
from service.datasets import service as datasets
from service.inspections import service as inspections
from service.models import service as catalog
from service.models.schemas import ModelFilter, SortKey
from service.rankings import service as rankings

BOUND_MS = 50.0
REPEATS = 15
PLANS = Path(__file__).parent / "lists"
Read = Callable[[Session], Any]


def reads(size: Size, /) -> dict[str, Read]:
    project, middle = DEFAULT_PROJECT, size.datasets // 2

    def models(cursor: str | None = None, *, sort: SortKey = "name", descending: bool = False, **wanted: Any) -> Read:
        chosen = ModelFilter.model_validate(wanted)
        return lambda session: catalog.list_models(
            session, project, chosen, sort=sort, descending=descending, cursor=cursor
        )

    cursors: dict[SortKey, str | None] = {}

    def second_page(sort: SortKey) -> Read:
        def act(session: Session) -> Any:
            if sort not in cursors:
                cursors[sort] = models(sort=sort)(session).next_cursor
            return models(cursors[sort], sort=sort)(session)

        return act

    found: dict[str, Read] = {"models": models()}
    for sort in ("params", "macs", "input_size", "feature_dim", "created_at"):
        found[f"models by {sort}"] = models(sort=sort)
        found[f"models by {sort}, descending"] = models(sort=sort, descending=True)
    filters: dict[str, dict[str, Any]] = {
        "name glob at the start": {"name": "resnet50*"},
        "name glob in the middle": {"name": "*laion*"},
        "name glob, none matches": {"name": "*nothing*"},
        "two words": {"text": "vit imagenet"},
        "words, none matches": {"text": "nothing of this"},
        "library": {"library": "timm"},
        "family": {"family": "resnet"},
        "licence": {"licence": "mit"},
        "pretrained_on": {"pretrained_on": "imagenet-21k"},
        "parameters between": {"min_params": 20_000_000, "max_params": 30_000_000},
        "input_size": {"input_size": 384},
        "max_input_size": {"max_input_size": 256},
        "state": {"state": "ready"},
        "a tag": {"tags": {"team": "team4"}},
        "two tags": {"tags": {"team": "team4", "tier": "gold"}},
        "family, licence, parameters": {"family": "vit", "licence": "mit", "max_params": 100_000_000},
    }
    found |= {f"models: {what}": models(**wanted) for what, wanted in filters.items()}
    found |= {
        "models, second page": second_page("name"),
        "models by params, second page": second_page("params"),
        "a model by id": lambda s: catalog.show(s, project, ident("mdl", size.models // 2)),
        "datasets": lambda s: datasets.list_datasets(s, project),
        "datasets, 1000 a page": lambda s: datasets.list_datasets(s, project, limit=1000),
        "a dataset by id": lambda s: (
            datasets.show(s, project, ident("ds", middle)),
            inspections.of_dataset(s, project, ident("ds", middle)),
        ),
        "a dataset by name": lambda s: datasets.show(s, project, f"dataset {middle}"),
        "versions of a dataset": lambda s: datasets.versions_of(s, ident("ds", middle), limit=50),
        "an inspection": lambda s: inspections.show(s, project, ident("in", middle)),
        "reference set": lambda s: reference.show(s, project),
        "rankings": lambda s: rankings.list_rankings(s, project),
        "rankings, 1000 a page": lambda s: rankings.list_rankings(s, project, limit=1000),
        "rankings of a dataset": lambda s: rankings.list_rankings(s, project, dataset_id=ident("ds", middle)),
        f"a ranking, {size.models_per_ranking} models × 20": lambda s: rankings.show(s, project, ident("rk", middle)),
        "a ranking's progress": lambda s: rankings.progress_of(s, project, ident("rk", middle)),
    }
    return found


@dataclass
class Statement:
    sql: str
    parameters: Any
    sent: int = 0


@contextmanager
def watched(database: Database, /) -> Iterator[dict[str, Statement]]:
    """Every statement that asks for rows, and how often it was sent."""
    seen: dict[str, Statement] = {}

    def after(_connection: Any, _cursor: Any, sql: str, parameters: Any, _context: Any, _many: bool) -> None:
        if sql.startswith("SELECT"):
            seen.setdefault(sql, Statement(sql, parameters)).sent += 1

    event.listen(database.engine, "after_cursor_execute", after)
    try:
        yield seen
    finally:
        event.remove(database.engine, "after_cursor_execute", after)


def alone(database: Database, statement: Statement, /) -> float:
    """Milliseconds at the median, every row fetched: SQLite finds rows only as they are fetched."""
    taken = []
    with database.engine.connect() as connection:
        for _ in range(REPEATS):
            began = time.perf_counter()
            connection.exec_driver_sql(statement.sql, statement.parameters).fetchall()
            taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1000


def explained(database: Database, statement: Statement, /) -> str:
    how = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN (ANALYZE, BUFFERS)"
    with database.engine.connect() as connection:
        rows = connection.exec_driver_sql(f"{how} {statement.sql}", statement.parameters).all()
    return "\n".join(str(row[-1]) for row in rows)


def shortened(sql: str, /) -> str:
    flat = " ".join(sql.split())
    if len(flat) > 700:
        flat = f"{flat[:400]} … {flat[-250:]}"
    return flat


def measure(database: Database, kind: str, size: Size, /) -> list[dict[str, Any]]:
    results, plans = [], []
    for name, read in reads(size).items():
        with database.read() as session:
            read(session)
        whole = []
        with watched(database) as seen:
            for _ in range(REPEATS):
                with database.read() as session:
                    began = time.perf_counter()
                    read(session)
                    whole.append(time.perf_counter() - began)
        times = {sql: alone(database, statement) for sql, statement in seen.items()}
        results.append(
            {
                "database": kind,
                "read": name,
                "statements": sum(statement.sent for statement in seen.values()) // REPEATS,
                "slowest_statement_ms": round(max(times.values(), default=0.0), 2),
                "p50_ms": round(statistics.median(whole) * 1000, 2),
                "max_ms": round(max(whole) * 1000, 2),
            }
        )
        plans.append(f"=== {name}")
        for sql, statement in seen.items():
            plans += [f"-- {times[sql]:.2f} ms: {shortened(sql)}", explained(database, statement), ""]
    PLANS.mkdir(exist_ok=True)
    (PLANS / f"{kind}.explain.txt").write_text("\n".join(shorter(line) for line in plans) + "\n")
    return results


def shorter(line: str, /) -> str:
    return line if len(line) < 900 else f"{line[:600]} … {line[-250:]}"


def main() -> None:
    parser = arguments(__doc__ or "")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--kind", action="append", choices=("postgresql", "sqlite"), help="both if unset")
    given = parser.parse_args()
    results: list[dict[str, Any]] = []
    for kind in given.kind or ("postgresql", "sqlite"):
        database = seeded(given.folder, kind, size_of(given))
        with database.read() as session:
            rows = session.execute(text("SELECT count(*) FROM scores")).scalar_one()
        print(f"{kind}: {rows:,} scores", file=sys.stderr)
        results += measure(database, kind, size_of(given))
        database.dispose()
    if given.json:
        print(json.dumps(results, indent=2))
    else:
        print(f"{'':44} {'database':>11} {'statements':>10} {'slowest':>9} {'whole p50':>9} {'max':>8}  (ms)")
        for r in sorted(results, key=lambda r: -r["slowest_statement_ms"]):
            print(
                f"{r['read']:44} {r['database']:>11} {r['statements']:>10} {r['slowest_statement_ms']:>9} "
                f"{r['p50_ms']:>9} {r['max_ms']:>8}"
            )
    slow = [r for r in results if r["slowest_statement_ms"] > BOUND_MS]
    if slow:
        sys.exit(f"{len(slow)} of {len(results)} reads have a statement slower than {BOUND_MS:g} ms.")


if __name__ == "__main__":
    main()
