"""Numbers are shown to what their error allows, and a table says what one must know to read it."""

from datetime import UTC, datetime

import pytest

from service.rankings.display import notes, reasons, value_and_error
from service.rankings.schemas import DatasetBrief, EntryView, Progress, RankingView, ReferenceBrief, ScoreView
from service.scoring.evidence import NEEDS_REFERENCE


@pytest.mark.parametrize(
    ("value", "stderr", "shown"),
    [
        (-0.36349, 0.02449, ("-0.363", "0.024")),
        (0.0427, 0.0126, ("0.043", "0.013")),
        (123.456, 17.0, ("123", "17")),
        (0.5, None, ("0.5", "")),
        (1 / 3, 0.0, ("0.3333", "")),
        (1.0, float("inf"), ("1", "")),
        (None, None, ("n/a", "")),
    ],
)
def test_two_digits_of_the_error(value: float | None, stderr: float | None, shown: tuple[str, str]) -> None:
    score = ScoreView(value=value, stderr=stderr, diagnostics={}, degenerate=None, seconds=0.0)
    assert value_and_error(score) == shown


def test_no_score_shows_nothing() -> None:
    assert value_and_error(None) == ("", "")


def ranking(*widths: int, estimators: tuple[str, ...], reference: ReferenceBrief | None = None) -> RankingView:
    score = ScoreView(value=1.0, stderr=None, diagnostics={}, seconds=0.0)
    entries = [
        EntryView(
            rank=n + 1, tied_with=[], model=f"m{n}", model_id=f"id{n}", state="done", params=1, feature_dim=width,
            images_per_second=None, error=None, scores=dict.fromkeys(estimators, score),
        )
        for n, width in enumerate(widths)
    ]  # fmt: skip
    now = datetime(2026, 11, 21, tzinfo=UTC)
    dataset = DatasetBrief(id="ds", name="trees", fingerprint="f", n_images=1, n_classes=2)
    progress = Progress(
        models_done=1, models_total=1, images_embedded=0, images_to_embed=0, images_per_second=None, seconds_left=None,
        stage="done",
    )  # fmt: skip
    return RankingView(
        id="rk", state="done", dataset=dataset, split="train", reference=reference, estimators=list(estimators),
        ordered_by=estimators[0], progress=progress, entries=entries, error=None, created_at=now, started_at=now,
        finished_at=now,
    )  # fmt: skip


def test_notes_say_no_more_than_the_table_needs() -> None:
    assert notes(ranking(512, 512, estimators=("logme", "knn"))) == []
    named = ReferenceBrief(id="ds", name="photographs", fingerprint="f" * 64)
    said = notes(ranking(512, 512, estimators=("logme", "ped_logme", "frechet"), reference=named))
    assert said == ["↓: lower is better.", "ped_logme, frechet: against the reference set, photographs."]
    titled = notes(ranking(512, 512, estimators=("logme", "frechet"), reference=named), titles=True)
    assert titled[-1] == "Fréchet divergence: against the reference set, photographs."


def test_notes_warn_where_models_of_several_widths_meet_what_depends_on_width() -> None:
    said = "\n".join(notes(ranking(512, 768, estimators=("logme", "gbc"))))
    assert "gbc: depends on the number of features" in said
    assert "logme: depends" not in said


def test_without_a_reference_set_a_note_names_the_command() -> None:
    (said,) = (note for note in notes(ranking(512, estimators=("logme", "ped_logme"))) if "ped_logme" in note)
    assert "zooscout reference set DATASET" in said
    removed = ReferenceBrief(id="ds", name=None, fingerprint="abcdef0123456789")
    assert "removed since" in notes(ranking(512, estimators=("ped_logme",), reference=removed))[-1]


def test_reasons_are_told_once_for_all_models_concerned() -> None:
    view = ranking(512, 512, 512, estimators=("logme", "leep", "ped_logme"))
    none = {"value": None, "stderr": None, "diagnostics": {}, "seconds": 0.0}
    for entry in view.entries[:2]:
        entry.scores["leep"] = ScoreView(**none, degenerate="keeps no classifier")
    for entry in view.entries:
        entry.scores["ped_logme"] = ScoreView(**none, degenerate=NEEDS_REFERENCE)
    assert reasons(view) == {("leep", "keeps no classifier"): ["m0", "m1"]}
