"""How the command line speaks: results on standard output, everything else on standard error."""

import json
import sys
from typing import NoReturn

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from service.rankings.display import rounded
from service.rankings.schemas import EntryView, RankingView

PIPE_WIDTH = 160  # a pipe has no width of its own, and a model's name should not be broken for want of one

out = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
err = Console(stderr=True, highlight=False)


def fail(message: str, /, *, status: int = 1) -> NoReturn:
    # One line, however long: whoever reads it from a pipe or a log looks for one.
    err.print(f"[bold red]error:[/] {_escape(' '.join(message.splitlines()))}", soft_wrap=True)
    sys.exit(status)


def _escape(text: str) -> str:
    return text.replace("[", "\\[")


def print_json(value: BaseModel | object, /) -> None:
    data = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
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


def ranking_table(view: RankingView, /) -> Table:
    title = f"{view.dataset.name}: {view.dataset.n_images} images, {view.dataset.n_classes} classes"
    caption = f"Scored on the {view.split} split, ordered by {view.ordered_by}."
    if any(entry.tied_with for entry in view.entries):
        caption += " '=': within error of another model (paired jackknife over images, 90 %)."
    table = Table(title=title, caption=caption, caption_justify="left", title_justify="left")
    table.add_column("rank", justify="right", no_wrap=True)
    table.add_column("model", no_wrap=True, overflow="fold")
    for name in view.estimators:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("parameters", justify="right", no_wrap=True)
    table.add_column("images/s", justify="right", no_wrap=True)
    for entry in view.entries:
        speed = "" if entry.images_per_second is None else f"{entry.images_per_second:.3g}"
        table.add_row(
            place(entry),
            entry.model,
            *(rounded(entry.scores.get(name)) for name in view.estimators),
            count(entry.params),
            speed,
        )
    return table


def print_ranking(view: RankingView, /) -> None:
    out.print(ranking_table(view))
    for entry in view.entries:
        if entry.error:
            out.print(f"[red]failed[/] {entry.model}: {_escape(entry.error)}")
        for name, score in entry.scores.items():
            if score.degenerate:
                out.print(f"[yellow]no {name}[/] for {entry.model}: {_escape(score.degenerate)}")
    if view.error:
        out.print(f"[red]{view.error.get('title')}[/]: {_escape(str(view.error.get('detail')))}")
