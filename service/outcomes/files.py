"""Outcomes as CSV, in and out."""

import csv
import io
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from service.outcomes.errors import BadOutcomes
from service.outcomes.schemas import OutcomeCreate

MAX_ROWS = 20_000
_NEEDED = ("dataset", "model", "accuracy")
_FURTHER = ("n_test", "recipe", "source")
EXPORTED = (
    *("dataset", "model", "accuracy", "n_test", "recipe", "source", "version", "fingerprint", "weights_sha256"),
    "created_at",
)


def read(data: bytes, /) -> list[OutcomeCreate]:
    """The rows of a CSV with a header; columns of quite other names are passed over.

    Raises:
        BadOutcomes: naming the line.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadOutcomes("The CSV must be UTF-8.") from error
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip().lower() for name in reader.fieldnames or []]
        missing = [name for name in _NEEDED if name not in header]
        if missing:
            raise BadOutcomes(
                f"The CSV's header lacks {', '.join(missing)}: it needs {', '.join(_NEEDED)}, and may have "
                f"{', '.join(_FURTHER)}."
            )
        twice = next((name for name in (*_NEEDED, *_FURTHER) if header.count(name) > 1), None)
        if twice is not None:
            raise BadOutcomes(f"The CSV's header names {twice} twice: which of them holds is not known.")
        for name in set(header) - {*EXPORTED}:
            if meant := get_close_matches(name, (*_NEEDED, *_FURTHER), n=1, cutoff=0.75):
                raise BadOutcomes(f"The CSV's header has '{name}': is {meant[0]} meant?")
        reader.fieldnames = header
        rows: list[OutcomeCreate] = []
        for cells in reader:
            if len(rows) == MAX_ROWS:
                raise BadOutcomes(f"The CSV has more than {MAX_ROWS:,} rows: send it in parts.")
            rows.append(_row(cells, reader.line_num))
    except csv.Error as error:
        raise BadOutcomes(f"Line {reader.line_num} of the CSV cannot be read: {error}.") from error
    if not rows:
        raise BadOutcomes("The CSV has no rows under its header.")
    return rows


def _row(cells: dict[str, str | None], line: int) -> OutcomeCreate:
    if None in cells:
        raise BadOutcomes(
            f"Line {line} of the CSV has more cells than the header: is there a comma in a number or a name? Decimals "
            "have a point, and names with commas stand in quotes."
        )
    given = {name: value for name in (*_NEEDED, *_FURTHER) if (value := (cells.get(name) or "").strip())}
    try:
        return OutcomeCreate.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadOutcomes(f"Line {line} of the CSV, {'.'.join(map(str, first['loc']))}: {first['msg']}.") from error


def write(outcomes: Iterable[Mapping[str, Any]], /) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, EXPORTED, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(outcomes)
    return text.getvalue()
