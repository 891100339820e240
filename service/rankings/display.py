"""How a ranking is shown, on the command line and on the pages alike."""

import math
from typing import NamedTuple

from estimators.catalog import SPECS, Direction
from service.rankings.schemas import EntryView, RaceView, RankingView, ScoreView
from service.scoring.evidence import NEEDS_REFERENCE, needs_reference


def value_and_error(score: ScoreView | None, /) -> tuple[str, str]:
    """A value rounded to what its standard error allows (two digits of it), and that error, or nothing."""
    if score is None:
        return "", ""
    if score.value is None:
        return "n/a", ""
    if score.stderr is None or not math.isfinite(score.stderr) or score.stderr <= 0:
        return f"{score.value:.4g}", ""
    digits = min(8, max(0, 1 - math.floor(math.log10(score.stderr))))
    return f"{score.value:.{digits}f}", f"{score.stderr:.{digits}f}"


def heading(estimator: str, /) -> str:
    """Of its column: where less is better, an arrow says so."""
    return f"{estimator} ↓" if SPECS[estimator].direction is Direction.LOWER_IS_BETTER else estimator


def notes(view: RankingView, /, *, titles: bool = False) -> list[str]:
    """What one must know to read the table, with estimators by name or by title."""

    def listed(names: list[str]) -> str:
        return ", ".join(SPECS[name].title if titles else name for name in names)

    said = []
    if any(entry.tied_with for entry in view.entries):
        said.append(f"=: within error of another model (paired jackknife over {view.dataset.modality}s, 90 %).")
    if any(SPECS[name].direction is Direction.LOWER_IS_BETTER for name in view.estimators):
        said.append("↓: lower is better.")
    if view.race is not None and view.race.rungs:
        said.append(_race(view.race, f"{view.dataset.modality}s"))
    said.extend(_cut(view))
    by_width = [name for name in view.estimators if not SPECS[name].comparable_across_width]
    widths = {entry.feature_dim for entry in view.entries if entry.state == "done"}
    if by_width and len(widths) > 1:
        said.append(f"{listed(by_width)}: depends on the number of features; compare models of one width only.")
    dated = [
        name
        for name in view.estimators
        if any(
            entry.scores[name].version not in {None, SPECS[name].version}
            for entry in view.entries
            if name in entry.scores
        )
    ]
    if dated:
        said.append(f"{listed(dated)}: computed by an earlier version of the estimator; rank again for today's.")
    by_reference = [name for name in view.estimators if needs_reference(name)]
    if view.reference is not None:
        name = view.reference.name or f"a dataset removed since, fingerprint {view.reference.fingerprint[:12]}"
        said.append(f"{listed(by_reference)}: against the reference set, {name}.")
    elif by_reference:
        said.append(f"{listed(by_reference)}: {NEEDS_REFERENCE}.")
    return said


def _cut(view: RankingView) -> list[str]:
    """Of texts that are longer than what an encoder takes."""
    found: dict[tuple[int, int | None], list[str]] = {}
    for entry in view.entries:
        if entry.text is not None and entry.text.texts_cut:
            found.setdefault((entry.text.texts_cut, entry.text.max_length), []).append(entry.model)
    return [
        f"{n:,} {'texts are' if n > 1 else 'text is'} cut at {length} tokens by {', '.join(names)}."
        for (n, length), names in found.items()
    ]


def _race(race: RaceView, what: str) -> str:
    first, last = race.rungs[0], race.rungs[-1]
    reached = f"{last.candidates} of {first.candidates} models on {last.sample:,} of {race.images:,} {what}"
    match race.ended:
        case None:
            return f"A race within {race.budget}: {reached}."
        case "decided":
            why = "the first are told from the rest"
        case "budget":
            why = "the budget is used up"
        case "all images":
            why = f"all {what} were looked at"
    return f"A race within {race.budget}: it ended with {reached}, for {why}."


def reasons(view: RankingView, /) -> dict[tuple[str, str], list[str]]:
    """Why there is no value, by estimator and reason: the models concerned. What a note says already is left out."""
    found: dict[tuple[str, str], list[str]] = {}
    for entry in view.entries:
        for name, score in entry.scores.items():
            if score.degenerate and score.degenerate != NEEDS_REFERENCE:
                found.setdefault((name, score.degenerate), []).append(entry.model)
    return found


class Layers(NamedTuple):
    """Entries of one encoder and pooling, from the first layer to the last."""

    encoder: str
    pooling: str
    entries: list[EntryView]


def layers(view: RankingView, /) -> list[Layers]:
    """Of each encoder that is ranked by several of its layers."""
    found: dict[tuple[str, str, int | None], list[EntryView]] = {}
    for entry in view.entries:
        if entry.text is not None and entry.text.layer is not None:
            found.setdefault((entry.text.encoder, entry.text.pooling, entry.text.max_length), []).append(entry)
    return [
        Layers(encoder, pooling, sorted(entries, key=_layer))
        for (encoder, pooling, _), entries in found.items()
        if len(set(map(_layer, entries))) > 1
    ]


def _layer(entry: EntryView) -> int:
    return -1 if entry.text is None or entry.text.layer is None else entry.text.layer
