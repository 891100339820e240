"""A ranking in sentences, its figures against speed, and how far estimators agree."""

from datetime import UTC, datetime

import pytest

from service.core.budget import budget_from
from service.prescores.schemas import PrescoreCreate
from service.rankings.cost import first_rung
from service.rankings.schemas import DatasetBrief, EntryView, Progress, RankingView, ScoreView
from service.web.figures import cost_figure
from service.web.marks import marks
from service.web.new_ranking import budget_said
from service.web.prescores import meant
from service.web.rendering import at_work
from service.web.words import agreement, verdict


def entry(name: str, rank: int | None, value: float, *, tied: tuple[str, ...] = (), **facts: object) -> EntryView:
    known = {"params": 10_000_000, "feature_dim": 8, "images_per_second": 10.0, "error": None, "state": "done"} | facts
    scores = {
        name: ScoreView(value=v, stderr=0.1, diagnostics={}, seconds=0.0)
        for name, v in (("logme", value), ("frechet", 10 - value))
    }
    shown = scores if rank is not None else {}
    return EntryView.model_validate(
        {"rank": rank, "model": name, "model_id": name, "tied_with": list(tied), "scores": shown, **known}
    )


def ranking(*entries: EntryView, state: str = "done") -> RankingView:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    progress = Progress(
        models_done=1, models_total=1, images_embedded=0, images_to_embed=0, images_per_second=None, seconds_left=None,
        stage="done",
    )  # fmt: skip
    return RankingView.model_validate(
        {
            "id": "rk", "state": state, "split": "train", "reference": None, "ordered_by": "logme",
            "dataset": DatasetBrief(id="ds", name="trees", fingerprint="f", n_images=1, n_classes=2),
            "estimators": ["logme", "frechet"], "progress": progress, "entries": list(entries), "error": None,
            "created_at": now, "started_at": now, "finished_at": now,
        }
    )  # fmt: skip


def values(*entries: EntryView) -> dict[str, dict[str, float]]:
    return {
        name: {e.model: e.scores[name].value or 0.0 for e in entries if name in e.scores}
        for name in ("logme", "frechet")
    }


def test_what_is_tied_and_much_smaller_is_said() -> None:
    view = ranking(
        entry("a", 1, 3.0, tied=("b",)),
        entry("b", 2, 2.9, tied=("a",), params=2_000_000),
        entry("c", 3, 1.0),
        entry("d", None, 0.0, state="failed", error="no weights"),
    )
    assert verdict(view) == [
        "Fine-tune a.",
        "b is as good within error on this dataset.",
        "Of these b is the smallest, 5 × smaller than the first.",
        "1 of 4 models failed; the table says why.",
    ]


def test_an_order_beyond_error_is_said_and_a_provisional_one_is_not() -> None:
    entries = (entry("a", 1, 3.0), entry("b", 2, 1.0))
    assert verdict(ranking(*entries)) == ["Fine-tune a.", "LogME puts it ahead of all 1 others by more than error."]
    assert verdict(ranking(*entries, state="running")) == []
    assert verdict(ranking(entry("a", None, 0.0, state="failed"))) == []


def test_estimators_that_order_alike_agree_wholly_whatever_their_direction() -> None:
    found = agreement(values(*(entry(f"m{n}", n + 1, 5.0 - n) for n in range(4))))
    assert found is not None
    assert found.names == ["logme", "frechet"]
    assert found.taus[0][1] == pytest.approx(1.0)
    assert agreement(values(*(entry(f"m{n}", n + 1, 5.0 - n) for n in range(3)))) is None


def test_the_front_holds_what_nothing_beats_in_both() -> None:
    view = ranking(
        entry("slow_best", 1, 3.0, images_per_second=1.0),
        entry("middle", 2, 2.0, images_per_second=10.0),
        entry("beaten", 3, 1.0, images_per_second=5.0),
        entry("fast", 4, 0.5, images_per_second=20.0),
        entry("unmeasured", 5, 0.1, images_per_second=None),
    )
    for name in ("logme", "frechet"):
        figure = cost_figure(view, estimator=name)
        assert figure is not None
        assert set(figure["layout"]["meta"]["front"]) == {"slow_best", "middle", "fast"}
        assert len(figure["data"][1]["x"]) == 4
    assert cost_figure(ranking(entry("a", 1, 3.0))) is None


def test_marks_lie_in_their_frame_and_in_order() -> None:
    found = marks(ranking(entry("a", 1, 3.0, tied=("b",)), entry("b", 2, 2.95, tied=("a",)), entry("c", 3, 1.0)))
    assert [mark["best"] for mark in found] == [True, True, False]
    assert found[0]["high"] == 1000.0
    assert found[2]["low"] == 0.0
    assert all(mark["low"] < mark["x"] < mark["high"] for mark in found)


def test_a_budget_is_said_as_people_say_it() -> None:
    said = {text: budget_said(budget_from(text)) for text in ("10m", "90s", "120m", "5000img")}
    assert said == {
        "10m": "a 10-minute budget",
        "90s": "a 90-second budget",
        "120m": "a 2-hour budget",
        "5000img": "a budget of 5\N{NARROW NO-BREAK SPACE}000 images",
    }
    assert budget_said(None) is None
    assert at_work(("cuda:0", "cuda:1")) == "2 GPUs"
    assert at_work(("cpu",)) == "1 worker"


def test_a_budget_of_images_reaches_as_many_as_see_a_first_sample() -> None:
    assert first_rung(10, 5000, 10, budget_from("5000img")) == (10, 96)
    assert first_rung(100, 5000, 10, budget_from("5000img")) == (100, 50)
    assert first_rung(1000, 5000, 10, budget_from("5000img")) == (250, 20)


def test_what_a_prescore_was_asked_for_is_said() -> None:
    said = [
        meant(PrescoreCreate.model_validate(given))
        for given in (
            {},
            {"models": {"name": "resnet*", "max_params": 5}},
            {"models": ["a"], "datasets": "f*", "new": True, "budget": "2h"},
        )
    ]
    assert said == [
        "every model on every dataset",
        "models named resnet* with max params 5 on every dataset",
        "1 model by name on datasets named f*, what has no score yet, within 2h",
    ]
