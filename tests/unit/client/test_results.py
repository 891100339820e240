"""The client's dataclasses say what the service's schemas say, and turn into tables and figures."""

import dataclasses
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest
from pydantic import BaseModel

from service.client import flows, results
from service.client import outcomes as measured
from service.client import prescores as own
from service.client.results import Ranking
from service.datasets import schemas as datasets
from service.inspections import schemas as inspections
from service.models import schemas as models
from service.outcomes import schemas as outcomes
from service.prescores import schemas as prescores
from service.rankings import schemas as rankings
from service.rankings.schemas import RankingView
from service.recommendations import instant
from service.scoring import schemas as scoring
from service.scoring.errors import UnknownEstimator
from service.web.figures import SHOWN, ranking_figure, tie_groups
from service.webhooks import schemas as webhooks

PAIRS: list[tuple[type, type[BaseModel]]] = [
    (results.Model, models.ModelView),
    (results.Models, models.ModelPage),
    (results.Import, models.ImportAccepted),
    (results.InspectionBrief, datasets.InspectionBrief),
    (results.Dataset, datasets.DatasetView),
    (results.Datasets, datasets.DatasetPage),
    (results.Reference, datasets.ReferenceView),
    (results.Inspection, inspections.InspectionView),
    (results.Image, inspections.ImageView),
    (results.Neighbour, inspections.NeighbourView),
    (results.Neighbours, inspections.NeighboursView),
    (results.Scoring, scoring.ScoringView),
    (results.Score, rankings.ScoreView),
    (results.Text, rankings.TextView),
    (results.Entry, rankings.EntryView),
    (results.Rung, rankings.RungView),
    (results.Race, rankings.RaceView),
    (results.DatasetBrief, rankings.DatasetBrief),
    (results.ReferenceBrief, rankings.ReferenceBrief),
    (results.Progress, rankings.Progress),
    (results.RankingStatus, rankings.RankingStatus),
    (results.RankingBrief, rankings.RankingBrief),
    (results.Rankings, rankings.RankingPage),
    (results.Ranking, rankings.RankingView),
    (measured.Outcome, outcomes.OutcomeView),
    (measured.Outcomes, outcomes.OutcomePage),
    (measured.OutcomesAdded, outcomes.OutcomesAdded),
    (own.PairCounts, prescores.PairCounts),
    (own.Prescore, prescores.PrescoreView),
    (own.Prescores, prescores.PrescorePage),
    (own.Pair, prescores.PairView),
    (own.Pairs, prescores.PairPage),
    (own.Similar, instant.SimilarView),
    (own.Signature, instant.SignatureView),
    (own.Change, prescores.ChangeView),
    (own.Changes, prescores.ChangePage),
    (results.Webhook, webhooks.NewWebhook),
    (results.Webhooks, webhooks.WebhookList),
    (results.Attempt, webhooks.AttemptView),
    (results.Delivery, webhooks.DeliveryView),
    (results.Deliveries, webhooks.DeliveryPage),
]


def test_every_result_has_the_members_of_its_schema_and_is_frozen() -> None:
    for result, schema in PAIRS:
        assert {field.name for field in dataclasses.fields(result)} == set(schema.model_fields), result
        assert result.__dataclass_params__.frozen, result
    there = [(room, kind) for room in (results, own, measured) for kind in vars(room).values()]
    named = {k for room, k in there if dataclasses.is_dataclass(k) and k.__module__ == room.__name__}
    assert named == {result for result, _ in PAIRS}


def made(scores: dict[str, tuple[float, float | None]], ties: dict[str, list[str]] | None = None) -> dict[str, Any]:
    """A ranking as the service sends it, best first."""
    return {
        "id": "rk_1", "state": "done", "split": "train", "reference": None, "estimators": ["logme", "frechet"],
        "ordered_by": "logme", "error": None, "created_at": "2026-11-21T10:00:00Z", "started_at": None,
        "finished_at": "2026-11-21T10:01:00.5Z", "a_newer_member": 1,
        "dataset": {"id": "ds_1", "name": "trees", "fingerprint": "f", "n_images": 24, "n_classes": 3,
                    "modality": "image"},
        "progress": {"models_done": 1, "models_total": 1, "images_embedded": 0, "images_to_embed": 0,
                     "images_per_second": None, "seconds_left": 0.0, "stage": "done", "stage_seconds": {}},
        "entries": [
            {"rank": place, "tied_with": (ties or {}).get(name, []), "model": name, "model_id": f"m_{name}",
             "state": "done", "params": 1000, "feature_dim": 8, "images_per_second": None, "error": None,
             "scores": {"logme": {"value": value, "stderr": stderr, "diagnostics": {}, "degenerate": None,
                                  "seconds": 0.1, "version": 1}}}
            for place, (name, (value, stderr)) in enumerate(scores.items(), start=1)
        ] + [
            {"rank": None, "tied_with": [], "model": "broken", "model_id": "m_x", "state": "failed", "scores": {},
             "params": None, "feature_dim": None, "images_per_second": None, "error": "It is gone."},
        ],
    }  # fmt: skip


def ranking_of(*args: Any) -> Ranking:
    found: Ranking = flows._reader(Ranking).validate_python(made(*args))
    return found


TIED = {"a": ["b"], "b": ["a", "c"], "c": ["b"]}
SCORES: dict[str, tuple[float, float | None]] = {
    "a": (0.9, 0.02),
    "b": (0.89, 0.02),
    "c": (0.87, 0.03),
    "d": (0.1, None),
}


def test_a_ranking_is_read_and_written_as_it_was_sent() -> None:
    ranking = ranking_of(SCORES, TIED)
    assert ranking.finished_at == datetime(2026, 11, 21, 10, 1, 0, 500000, tzinfo=UTC)
    sent = {key: value for key, value in made(SCORES, TIED).items() if key != "a_newer_member"}
    assert flows.to_json(ranking) == RankingView.model_validate(sent).model_dump(mode="json")
    assert ranking.view() == RankingView.model_validate(sent)
    assert ranking.top == ("a", "b")
    assert ranking.best is ranking.entries[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        ranking.state = "running"  # type: ignore[misc]
    assert ranking_of({}).top == ()


def test_a_ranking_as_a_table_has_a_row_a_model_and_numbers_or_nothing() -> None:
    frame = ranking_of(SCORES, TIED).to_pandas()
    assert list(frame["model"]) == ["a", "b", "c", "d", "broken"]
    assert list(frame["logme"].iloc[:4]) == [0.9, 0.89, 0.87, 0.1]
    assert frame["logme_stderr"].isna().tolist() == [False, False, False, True, True]
    assert frame["frechet"].isna().all()
    assert frame["frechet"].dtype == "float64"
    assert frame["rank"].tolist()[:4] == [1, 2, 3, 4]
    assert frame["rank"].isna().iloc[4]
    assert frame["tied_with"].tolist() == ["b", "a, c", "b", "", ""]
    assert frame["error"].iloc[4] == "It is gone."
    assert isinstance(frame, pd.DataFrame)


def test_the_figure_shows_every_score_with_its_error_and_who_is_tied() -> None:
    figure = ranking_of(SCORES, TIED).plot()
    assert isinstance(figure, go.Figure)  # and Plotly has checked every member's name and kind
    (marks,) = figure.data
    assert list(marks.y) == ["a", "b", "c", "d"]
    assert list(marks.x) == [0.9, 0.89, 0.87, 0.1]
    assert list(marks.error_x.array) == [0.02, 0.02, 0.03, None]
    filled = [colour != "#ffffff" for colour in marks.marker.color]
    assert filled == [True, True, False, False]
    assert figure.layout.meta["tie_groups"] == [["a", "b"], ["b", "c"]]
    assert len(figure.layout.shapes) == 2
    assert "0.900 ± 0.020" in marks.text[0]
    with pytest.raises(UnknownEstimator, match="knn"):
        ranking_of(SCORES).plot("knn")
    assert list(ranking_of({}).plot().data[0].y) == []
    many = ranking_figure(ranking_of({f"m{n}": (1.0 - n / 100, 0.1) for n in range(60)}).view())
    assert len(many["data"][0]["x"]) == SHOWN
    assert "10 more" in many["layout"]["title"]["text"]


def test_tie_groups_are_runs_in_which_each_is_tied_with_each() -> None:
    def groups(ties: dict[str, str]) -> list[tuple[int, int]]:
        scores: dict[str, tuple[float, float | None]] = {name: (1.0, 0.1) for name in ties}
        view = ranking_of(scores, {name: list(others) for name, others in ties.items()}).view()
        return tie_groups(view.entries[: len(ties)])

    assert groups({"a": "", "b": "", "c": ""}) == []
    assert groups({"a": "bc", "b": "ac", "c": "ab"}) == [(0, 2)]
    assert groups({"a": "b", "b": "ac", "c": "bd", "d": "c"}) == [(0, 1), (1, 2), (2, 3)]
    assert groups({"a": "c", "b": "", "c": "a"}) == []  # a noisy model tied across a sure one
    assert groups({"a": "b", "b": "a", "c": "d", "d": "c"}) == [(0, 1), (2, 3)]


def test_the_client_and_the_figures_load_neither_pandas_nor_plotly_and_say_what_to_install() -> None:
    code = (
        "import sys; import service.client, service.client.results as r, service.web.figures\n"
        "print(sorted(m for m in ('pandas', 'plotly', 'torch', 'numpy') if m in sys.modules))\n"
        "sys.modules['pandas'] = None; sys.modules['plotly'] = None; sys.modules['plotly.graph_objects'] = None\n"
        "from service.client.errors import MissingExtra\n"
        "for method in (r.Ranking.to_pandas, r.Ranking.plot):\n"
        "    try: method(None)\n"
        "    except MissingExtra as missing: print(missing)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    loaded, *said = done.stdout.splitlines()
    assert loaded == "[]", done.stderr
    assert len(said) == 2, done.stderr
    assert all("zooscout[notebook]" in line for line in said)
