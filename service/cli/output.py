"""How the command line speaks: results on standard output, everything else on standard error."""

import json
import sys
from dataclasses import is_dataclass
from typing import Literal, NoReturn

from pydantic import BaseModel
from rich.box import SIMPLE
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from service.client.flows import to_json
from service.rankings.display import Layers, heading, layers, notes, reasons, value_and_error
from service.rankings.schemas import EntryView, RankingView, ScoreView

PIPE_WIDTH = 200  # a pipe has no width of its own, and a model's name should not be broken for want of one

SHOWN_NAMES = 3
Room = Literal["ample", "less", "little"]
ROOMS: tuple[Room, ...] = ("ample", "less", "little")

out = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
err = Console(stderr=True, highlight=False)


def fail(message: str, /, *, status: int = 1) -> NoReturn:
    # One line, however long: whoever reads it from a pipe or a log looks for one.
    err.print(f"[bold red]error:[/] {_escape(' '.join(message.splitlines()))}", soft_wrap=True)
    sys.exit(status)


def _escape(text: str) -> str:
    return text.replace("[", "\\[")


def print_json(value: BaseModel | object, /) -> None:
    data: object
    if isinstance(value, BaseModel):
        data = value.model_dump(mode="json")
    else:
        data = to_json(value) if is_dataclass(value) else value
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def count(number: int | None, /) -> str:
    if number is None:
        return "?"
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return str(number)


def place(entry: EntryView, /) -> str:
    if entry.rank is None:
        return "–"
    return f"{entry.rank}{' =' if entry.tied_with else ''}"


def ranking_table(view: RankingView, /, *, room: Room = "ample") -> Table:
    """With less room, errors stand in the column that orders alone; with little, what does not order is left out."""
    title = f"{view.dataset.name}: {view.dataset.n_images} {view.dataset.modality}s, {view.dataset.n_classes} classes"
    caption = "\n".join(
        [f"Scored on the {view.split} split, ordered by {view.ordered_by}.", *map(_escape, notes(view))]
    )
    little = room == "little"
    table = Table(title=title, caption=caption, caption_justify="left", title_justify="left", collapse_padding=little)
    if little:
        table.box, table.pad_edge = SIMPLE, False
    table.add_column("rank", justify="right", no_wrap=True)
    table.add_column("model", no_wrap=not little, overflow="fold")
    for name in view.estimators:
        text = heading(name)
        table.add_column(text.replace("_", "_\n") if little else text, justify="right", no_wrap=True)
    facts = () if little else ("parameters", f"{view.dataset.modality}s/s")
    for fact in facts:
        table.add_column(fact, justify="right", no_wrap=True)
    for entry in view.entries:
        speed = "" if entry.images_per_second is None else f"{entry.images_per_second:.3g}"
        table.add_row(
            place(entry),
            entry.model,
            *(
                _cell(entry.scores.get(name), error=room == "ample" or name == view.ordered_by)
                for name in view.estimators
            ),
            *(count(entry.params), speed)[: len(facts)],
        )
    return table


def layer_table(view: RankingView, found: Layers, /) -> Table:
    title = f"Layer by layer: {found.encoder}, {found.pooling}"
    table = Table(title=_escape(title), title_justify="left", box=SIMPLE)
    table.add_column("layer", justify="right")
    table.add_column("model")
    for name in view.estimators:
        table.add_column(heading(name), justify="right", no_wrap=True)
    table.add_column("rank", justify="right")
    for entry in found.entries:
        scores = [_cell(entry.scores.get(name), error=True) for name in view.estimators]
        table.add_row(str(entry.text.layer if entry.text else ""), entry.model, *scores, place(entry))
    return table


def _cell(score: ScoreView | None, /, *, error: bool) -> str:
    value, stderr = value_and_error(score)
    return f"{value} [dim]± {stderr}[/]" if error and stderr else value


def _fits(table: Table) -> bool:
    return Measurement.get(out, out.options.update(max_width=PIPE_WIDTH * 10), table).maximum <= out.width


def print_ranking(view: RankingView, /) -> None:
    tables = (ranking_table(view, room=room) for room in ROOMS)
    out.print(next((table for table in tables if _fits(table)), ranking_table(view, room="little")))
    for found in layers(view):
        out.print(layer_table(view, found))
    for entry in view.entries:
        if entry.error:
            out.print(f"[red]failed[/] {entry.model}: {_escape(entry.error)}")
    for entry in view.entries:
        if entry.dropped:
            out.print(f"dropped {entry.model} {_escape(entry.dropped)}")
    for (name, reason), names in reasons(view).items():
        listed = ", ".join(names[:SHOWN_NAMES]) + (f" and {len(names) - SHOWN_NAMES} more" * (len(names) > SHOWN_NAMES))
        out.print(f"[yellow]no {name}[/] for {listed}: {_escape(reason)}")
    if view.error:
        out.print(f"[red]{view.error.get('title')}[/]: {_escape(str(view.error.get('detail')))}")
