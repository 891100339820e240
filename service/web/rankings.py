"""Pages of rankings: while they run, and what came out."""

import csv
import io
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from sqlalchemy.orm import Session

from estimators.catalog import SPECS
from service.api.deps import AppDep, ProjectDep
from service.jobs import repository as jobs
from service.models import repository as model_rows
from service.rankings import service as rankings
from service.rankings.repository import ENDED
from service.rankings.schemas import RankingView
from service.web.contexts import AgreementPage, RankingPage, RankingRowsPage, RankingsPage, ReportPage
from service.web.figures import cost_figure, ranking_figure
from service.web.forms import FormDep
from service.web.marks import marks
from service.web.paths import STATIC
from service.web.rendering import render
from service.web.words import FEW, agreement, verdict
from zoo.catalog import ModelCard
from zoo.snippet import snippet

router = APIRouter()
LISTED = 50
NAMED = 5
PLOTTED = 25  # models of the figure beside the other
FIRST = 50  # rows that a ranking's page begins with; the others are fetched once it is shown
FILE = 'attachment; filename="ranking-{}.{}"'


@router.get("/rankings")
def list_rankings(
    request: Request, app: AppDep, project: ProjectDep, cursor: Annotated[str | None, Query(max_length=2000)] = None
) -> HTMLResponse:
    with app.database.read() as session:
        found = rankings.list_rankings(session, project, limit=LISTED, cursor=cursor)
    return render(request, "rankings.html", RankingsPage(rankings=found.items, following=found.next_cursor))


@router.get("/rankings/{ranking}")
def show_ranking(
    request: Request,
    app: AppDep,
    project: ProjectDep,
    ranking: str,
    by: Annotated[str | None, Query(max_length=100)] = None,
    rows: Annotated[str | None, Query(max_length=10)] = None,
) -> HTMLResponse:
    first = None if rows == "all" else FIRST
    with app.database.read() as session:
        view = rankings.show_first(session, project, ranking, first=first, whole=[by] if by in SPECS else [])
        code, of = _snippet(session, project, view)
    running = view.state not in ENDED
    shown_by = by if by in view.estimators else view.ordered_by
    page = RankingPage(
        ranking=view,
        running=running,
        entries=view.entries[:first],
        left=len(view.entries) - len(view.entries[:first]),
        words=verdict(view),
        compared=not running and len(view.estimators) > 1 and len(view.entries) >= FEW,
        figures=[] if running else _figures(view, shown_by),
        by=shown_by,
        snippet=code,
        snippet_of=of,
    )
    return render(request, "ranking.html", page)


@router.get("/rankings/{ranking}/rows")
def show_rows(request: Request, app: AppDep, project: ProjectDep, ranking: str) -> HTMLResponse:
    """Those that the ranking's page does not begin with."""
    with app.database.read() as session:
        view = rankings.show_first(session, project, ranking, first=None)
    return render(request, "ranking_rows.html", RankingRowsPage(ranking=view, entries=view.entries[FIRST:]))


@router.get("/rankings/{ranking}/agreement")
def show_agreement(request: Request, app: AppDep, project: ProjectDep, ranking: str) -> HTMLResponse:
    with app.database.read() as session:
        status = rankings.progress_of(session, project, ranking)
        found = agreement(rankings.values(session, project, ranking))
    return render(request, "agreement.html", AgreementPage(ranking=status, agreement=found))


def _figures(view: RankingView, by: str) -> list[dict[str, Any]]:
    if not any(entry.scores.get(by) and entry.scores[by].value is not None for entry in view.entries):
        return []
    title = SPECS[by].title
    first = {
        "id": "scores",
        "title": f"{title} with its standard error",
        "says": f"The models by {title}, best first. The table below holds the same numbers.",
        "figure": ranking_figure(view, estimator=by, most=PLOTTED),
    }
    against = cost_figure(view, estimator=by)
    if against is None:
        return [first]
    front = against["layout"]["meta"]["front"]
    more = f" and {len(front) - NAMED} more" if len(front) > NAMED else ""
    return [
        first,
        {
            "id": "cost",
            "title": f"{title} against speed",
            "says": f"Nothing is both better and faster than {', '.join(front[:NAMED])}{more}.",
            "figure": against,
        },
    ]


def _snippet(session: Session, project: str, view: RankingView) -> tuple[str | None, str | None]:
    first = next((entry for entry in view.entries if entry.rank == 1), None)
    if first is None:
        return None, None
    return snippet(ModelCard.from_json(model_rows.get(session, project, first.model_id).card)), first.model


@router.get("/rankings/{ranking}/ranking.csv")
def download_csv(app: AppDep, project: ProjectDep, ranking: str) -> Response:
    with app.database.read() as session:
        view = rankings.show_first(session, project, ranking, first=None)
    out = io.StringIO()
    columns = _columns(view)
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows([_plain(cell) for cell in row] for row in zip(*columns.values(), strict=True))
    headers = {"Content-Disposition": FILE.format(view.id, "csv")}
    return Response(out.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


@router.get("/rankings/{ranking}/ranking.parquet")
def download_parquet(app: AppDep, project: ProjectDep, ranking: str) -> Response:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with app.database.read() as session:
        view = rankings.show_first(session, project, ranking, first=None)
    out = pa.BufferOutputStream()
    pq.write_table(pa.table(_columns(view)), out)
    headers = {"Content-Disposition": FILE.format(view.id, "parquet")}
    return Response(out.getvalue().to_pybytes(), media_type="application/vnd.apache.parquet", headers=headers)


def _columns(view: RankingView) -> dict[str, list[Any]]:
    """The table as it is downloaded, a row a model."""
    entries = view.entries
    columns: dict[str, list[Any]] = {
        "rank": [entry.rank for entry in entries],
        "model": [entry.model for entry in entries],
        "tied_with": [" ".join(entry.tied_with) for entry in entries],
    }
    for name in view.estimators:
        scores = [entry.scores.get(name) for entry in entries]
        columns[name] = [score.value if score else None for score in scores]
        columns[f"{name}_stderr"] = [score.stderr if score else None for score in scores]
    for fact in ("params", "feature_dim", "images_per_second", "forward_bytes", "state", "error"):
        columns[fact] = [getattr(entry, fact) for entry in entries]
    return columns


def _plain(cell: object) -> object:
    """A spreadsheet would run text that begins like a formula."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in {"=", "+", "-", "@", "\t", "\r"} else cell


@router.get("/rankings/{ranking}/report.html")
def download_report(request: Request, app: AppDep, project: ProjectDep, ranking: str) -> HTMLResponse:
    """One file: style and figure are in it, no script."""
    with app.database.read() as session:
        view = rankings.show_first(session, project, ranking, first=None)
        code, of = _snippet(session, project, view)
    page = ReportPage(
        ranking=view,
        words=verdict(view),
        marks=marks(view),
        style=(STATIC / "style.css").read_text(encoding="utf-8"),
        snippet=code,
        snippet_of=of,
    )
    answer = render(request, "report.html", page)
    answer.headers["Content-Disposition"] = FILE.format(view.id, "html")
    return answer


@router.post("/rankings/{ranking}/cancel")
def cancel_ranking(app: AppDep, project: ProjectDep, ranking: str, form: FormDep) -> RedirectResponse:
    with app.database.write() as session:
        rankings.cancel(session, project, ranking)
    return RedirectResponse(f"/rankings/{ranking}", status_code=303)


@router.post("/rankings/{ranking}/remove")
def remove_ranking(app: AppDep, project: ProjectDep, ranking: str, form: FormDep) -> RedirectResponse:
    """One that runs is stopped."""
    with app.database.write() as session:
        dataset = rankings.dataset_of(session, project, ranking)
        rankings.remove(session, project, ranking)
        jobs.enqueue_collection(session, project)
    return RedirectResponse(f"/datasets/{dataset}", status_code=303)
