"""Figures as Plotly's JSON, so that whoever serves them need not load Plotly. Shared by the pages and the client."""

from collections.abc import Sequence
from typing import Any

from estimators.catalog import SPECS, Direction
from service.inspections.schemas import MapPoint, MapView
from service.rankings.display import heading, notes, value_and_error
from service.rankings.schemas import EntryView, RankingView
from service.recommendations.model import Recommendation
from service.scoring.errors import UnknownEstimator

FIRST, OTHERS = "#0b6e4f", "#5a6b7b"
ROW_PIXELS, MARGIN_PIXELS = 24, 150
SHOWN = 50
LANES = 5
BARS = 60  # more intervals cover each other and the marks
_MARKS = (  # readable without colours, on light and on dark
    ("#2a78b8", "circle"), ("#d9782d", "square"), ("#4a9b5f", "diamond"), ("#c2508a", "triangle-up"),
    ("#8a6fc0", "cross"), ("#b58a2a", "x"), ("#3aa6a6", "triangle-down"), ("#b5564c", "star"),
    ("#7d8a3a", "pentagon"), ("#6b84a8", "hexagon"),
)  # fmt: skip


def ranking_figure(view: RankingView, /, *, estimator: str | None = None, most: int = SHOWN) -> dict[str, Any]:
    """The first models by score with its standard error, best at the top.

    Filled marks are the models that are within error of the first. A bar at the right stands beside neighbours none of
    which can be told from another, at most five side by side. Ties are those of the estimator that orders the ranking.

    Raises:
        UnknownEstimator: The ranking has no scores of it.
    """
    name = estimator or view.ordered_by
    if name not in view.estimators:
        raise UnknownEstimator(f"The ranking has no scores of '{name}': it has {', '.join(view.estimators)}.")
    entries = [entry for entry in view.entries if _value(entry, name) is not None]
    orders = name == view.ordered_by
    if not orders:
        lower = SPECS[name].direction is Direction.LOWER_IS_BETTER
        entries.sort(key=lambda entry: (_value(entry, name) or 0.0) * (1 if lower else -1))
    left_out = max(0, len(entries) - most)
    entries = entries[:most]
    models = [entry.model for entry in entries]
    best = {models[0], *entries[0].tied_with} if entries and orders else set()
    groups = tie_groups(entries) if orders else []
    bars = _lanes(groups)
    subtitle = [
        f"{view.dataset.name}: {view.dataset.n_images} {view.dataset.modality}s, {view.dataset.n_classes} classes"
    ]
    subtitle += [f"and {left_out} more models"] if left_out else []
    marks = {
        "type": "scatter",
        "mode": "markers",
        "orientation": "h",
        "x": [_value(entry, name) for entry in entries],
        "y": models,
        "error_x": {
            "type": "data",
            "array": [entry.scores[name].stderr for entry in entries],
            "thickness": 1.5,
            "width": 4,
            "color": OTHERS,
        },
        "marker": {
            "size": 10,
            "color": [FIRST if model in best else "#ffffff" for model in models],
            "line": {"width": 2, "color": [FIRST if model in best else OTHERS for model in models]},
        },
        "text": [_hover(entry, name, orders=orders) for entry in entries],
        "hovertemplate": "%{text}<extra></extra>",
    }
    layout = {
        "title": {"text": f"{SPECS[name].title}<br><sub>{'; '.join(subtitle)}</sub>", "x": 0, "xref": "paper"},
        "xaxis": {"title": {"text": f"{heading(name)} ± standard error"}, "zeroline": False},
        "yaxis": {"range": [len(entries) - 0.5, -0.5], "type": "category", "automargin": True},
        "height": MARGIN_PIXELS + ROW_PIXELS * max(3, len(entries)),
        "margin": {"r": 40 + 10 * (1 + max((lane for _, lane in bars), default=-1)), "t": 70},
        "template": "plotly_white",
        "showlegend": False,
        "shapes": [_bar(group, lane) for group, lane in bars],
        "meta": {"notes": notes(view), "tie_groups": [[models[i] for i in range(a, b + 1)] for a, b in groups]},
    }
    return {"data": [marks], "layout": layout}


def cost_figure(view: RankingView, /, *, estimator: str | None = None) -> dict[str, Any] | None:
    """Score against images a second, with the models that none beats in both; None with fewer than two to show."""
    name = estimator or view.ordered_by
    lower = SPECS[name].direction is Direction.LOWER_IS_BETTER
    unit = f"{view.dataset.modality}s/s"
    points = [
        (entry.images_per_second, value, entry)
        for entry in view.entries
        if entry.images_per_second and (value := _value(entry, name)) is not None
    ]
    points = [(_digits(speed), _digits(value), entry) for speed, value, entry in points]
    if len(points) < 2:
        return None
    best_first = sorted(points, key=lambda point: (-point[0], point[1] if lower else -point[1]))
    front: list[tuple[float, float, EntryView]] = []
    for point in best_first:
        if not front or (point[1] < front[-1][1] if lower else point[1] > front[-1][1]):
            front.append(point)
    on_front = {entry.model for _, _, entry in front}
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": [speed for speed, _, _ in points],
        "y": [value for _, value, _ in points],
        "error_y": {
            "type": "data",
            "array": [stderr and _digits(stderr) for _, _, e in points for stderr in [e.scores[name].stderr]],
            "thickness": 1,
            "width": 3,
            "color": OTHERS,
        },
        "marker": {
            "size": 10,
            "color": [FIRST if entry.model in on_front else "#ffffff" for _, _, entry in points],
            "line": {"width": 2, "color": [FIRST if entry.model in on_front else OTHERS for _, _, entry in points]},
        },
        "text": [_hover(entry, name, orders=False) + f"<br>{speed:.3g} {unit}" for speed, _, entry in points],
        "hovertemplate": "%{text}<extra></extra>",
    }
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": [speed for speed, _, _ in front],
        "y": [value for _, value, _ in front],
        "line": {"width": 1, "color": FIRST, "dash": "dot"},
        "hoverinfo": "skip",
    }
    layout = {
        "xaxis": {
            "title": {"text": f"{unit}, as measured here"},
            "type": "log",
            "tickvals": _ticks([speed for speed, _, _ in points]),
        },
        "yaxis": {
            "title": {"text": heading(name)},
            "zeroline": False,
            "automargin": True,
            "autorange": "reversed" if lower else True,
        },
        "height": 360,
        "margin": {"r": 20, "t": 20},
        "template": "plotly_white",
        "showlegend": False,
        "meta": {"front": [entry.model for _, _, entry in front]},
    }
    return {"data": [line, dots], "layout": layout}


def expected_figure(found: Recommendation, /) -> dict[str, Any] | None:
    """Expected accuracy against time an image; filled marks are on the front. None with fewer than two to show."""
    points = [
        (entry.milliseconds, entry.expected, entry)
        for entry in found.entries
        if entry.expected is not None and entry.milliseconds
    ]
    if len(points) < 2:
        return None
    colours = [FIRST if entry.on_front else OTHERS for _, _, entry in points]
    barred = [x if entry.on_front or len(points) <= BARS else None for _, x, entry in points]
    dots = {
        "type": "scatter",
        "mode": "markers",
        "x": [_digits(milliseconds) for milliseconds, _, _ in points],
        "y": [_digits(100 * expected.accuracy) for _, expected, _ in points],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [_digits(100 * (x.interval[1] - x.accuracy)) if x else None for x in barred],
            "arrayminus": [_digits(100 * (x.accuracy - x.interval[0])) if x else None for x in barred],
            "thickness": 1,
            "width": 3,
            "color": OTHERS,
        },
        "marker": {
            "size": 10,
            "color": [FIRST if entry.on_front else "#ffffff" for _, _, entry in points],
            "line": {"width": 2, "color": colours},
        },
        "text": [f"{e.model}<br>{100 * x.accuracy:.1f} %<br>{ms:.3g} ms" for ms, x, e in points],
        "hovertemplate": "%{text}<extra></extra>",
    }
    layout = {
        "xaxis": {
            "title": {"text": "ms each, as measured here"},
            "type": "log",
            "tickvals": _ticks([ms for ms, _, _ in points]),
        },
        "yaxis": {
            "title": {"text": "expected accuracy, %"},
            "zeroline": False,
            "automargin": True,
        },
        "height": 360,
        "margin": {"r": 20, "t": 20},
        "template": "plotly_white",
        "showlegend": False,
    }
    return {"data": [dots], "layout": layout}


def map_figure(found: MapView, /) -> dict[str, Any]:
    """Images as points, a colour and a mark for each of the largest classes; grey for the others."""
    by_class: dict[str, list[MapPoint]] = {}
    for point in found.points:
        by_class.setdefault(point.label, []).append(point)
    largest = sorted(sorted(by_class), key=lambda label: -len(by_class[label]))
    named, others = largest[: len(_MARKS)], largest[len(_MARKS) :]
    groups = [(label, by_class[label], mark) for label, mark in zip(named, _MARKS, strict=False)]
    if others:
        rest = [point for label in others for point in by_class[label]]
        groups.insert(0, (f"{len(others)} other classes", rest, (OTHERS, "circle-open")))
    traces = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": label,
            "x": [_digits(point.x) for point in points],
            "y": [_digits(point.y) for point in points],
            "marker": {"size": 7, "color": colour, "symbol": symbol, "opacity": 0.8},
            "text": [f"{point.label}<br>{point.path}" for point in points],
            "hovertemplate": "%{text}<extra></extra>",
        }
        for label, points, (colour, symbol) in groups
    ]
    layout = {
        "xaxis": {"title": {"text": "first axis"}, "zeroline": False},
        "yaxis": {"title": {"text": "second axis"}, "zeroline": False, "scaleanchor": "x"},
        "height": 560,
        "margin": {"r": 20, "t": 20},
        "template": "plotly_white",
        "showlegend": True,
    }
    return {"data": traces, "layout": layout}


def tie_groups(entries: Sequence[EntryView], /) -> list[tuple[int, int]]:
    """Runs of places, first and last, in which every model is tied with every other; none within another."""
    found: list[tuple[int, int]] = []
    for start in range(len(entries)):
        end = start
        while end + 1 < len(entries) and all(
            entries[end + 1].model in other.tied_with for other in entries[start : end + 1]
        ):
            end += 1
        if end > start and not (found and found[-1][1] >= end):
            found.append((start, end))
    return found


def _lanes(groups: Sequence[tuple[int, int]]) -> list[tuple[tuple[int, int], int]]:
    """Groups in as few columns as keep them apart; of hundreds of models the columns would take all the room."""
    ends: list[int] = []
    found = []
    for start, end in groups:
        lane = next((n for n, taken in enumerate(ends) if taken < start), len(ends))
        if lane == LANES:
            continue
        ends[lane : lane + 1] = [end]
        found.append(((start, end), lane))
    return found


def _bar(group: tuple[int, int], place: int) -> dict[str, Any]:
    x = 1.01 + 0.012 * place
    start, end = group
    ends = {"x0": x, "x1": x, "y0": start - 0.3, "y1": end + 0.3}
    return {"type": "line", "xref": "paper", "yref": "y", "line": {"width": 3, "color": OTHERS}, **ends}


def _ticks(values: Sequence[float]) -> list[float]:
    """Round numbers on a logarithmic axis: more of them where the values lie close together."""
    digits = (1, 2, 5) if max(values) > 20 * min(values) else (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
    return [digit * 10.0**power for power in range(-2, 6) for digit in digits]


def _digits(value: float) -> float:
    """As many as a figure shows: a page holds hundreds of numbers."""
    return float(f"{value:.6g}")


def _value(entry: EntryView, name: str) -> float | None:
    score = entry.scores.get(name)
    return None if score is None else score.value


def _hover(entry: EntryView, name: str, *, orders: bool) -> str:
    value, stderr = value_and_error(entry.scores[name])
    said = f"{entry.model}<br>{value}" + (f" ± {stderr}" if stderr else "")
    if orders and entry.tied_with:
        said += f"<br>within error of {len(entry.tied_with)}: {', '.join(entry.tied_with[:5])}"
        said += " …" if len(entry.tied_with) > 5 else ""
    return said
