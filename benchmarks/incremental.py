"""What a second ranking costs: of the same dataset, of a version with 1 % new images, of one with 10 % relabelled.

python -m benchmarks.incremental --data-dir DIR --prepare      makes the images, takes them in, makes the versions
python -m benchmarks.incremental --data-dir DIR --measure      ranks them, from POST to done, in a running service
python -m benchmarks.incremental --data-dir DIR                both

The service is `zooscout serve` with one worker, warm: it has ranked another small dataset with the same models before.
The images are JPEGs of 500 x 375, drawn so that classes differ and no two are equal. Models are those beside the
project (../shared/data/weights); `--models` chooses among them.
"""

import argparse
import io
import json
import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from benchmarks.shared_models import SHARED
from service.client import Client
from service.datasets.schemas import VersionCreate
from service.models.schemas import ModelCreate
from service.rankings.schemas import RankingCreate, RankingView

SIZE = (500, 375)
CLASSES = 10
NEW_SHARE, RELABELLED_EVERY = 0.01, 10
BOUNDS = {"second ranking": 0.01, "1 % new images": 0.03, "10 % relabelled": 0.01}
POLL_SECONDS = 0.005  # at first; later a fiftieth of what has passed, for asking takes half a core from the ranking


def jpeg(number: int) -> bytes:
    """One image of class `number % CLASSES`: shapes on a textured ground, in the class's colours and counts."""
    rng = np.random.default_rng(number)
    label = number % CLASSES
    ground = rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)
    picture = Image.fromarray(ground).resize(SIZE, Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(4))
    draw = ImageDraw.Draw(picture)
    for _ in range(3 + label):
        x, y, r = rng.uniform(0, SIZE[0]), rng.uniform(0, SIZE[1]), rng.uniform(15, 70)
        colour = tuple(
            int(v)
            for v in (np.array([(37 * label) % 256, (91 * label) % 256, 255 - 20 * label]) + rng.normal(0, 30, 3)).clip(
                0, 255
            )
        )
        if label % 2:
            draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
        else:
            draw.rectangle((x - r, y - r, x + r, y + r * 0.6), fill=colour)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=90)
    return out.getvalue()


def archive(path: Path, numbers: range) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as made, ProcessPoolExecutor(os.cpu_count()) as pool:
        for number, data in zip(numbers, pool.map(jpeg, numbers, chunksize=16), strict=True):
            made.writestr(f"train/class{number % CLASSES}/{number}.jpg", data)


@contextmanager
def serving(data_dir: Path) -> Iterator[Client]:
    log = data_dir / "serve.log"
    environment = os.environ | {"ZOOSCOUT_DATA_DIR": str(data_dir / "zooscout")}
    with log.open("w", encoding="utf-8") as out:
        command = [sys.executable, "-m", "service.cli", "serve", "--port", "0"]
        child = subprocess.Popen(command, env=environment, stderr=out)
    try:
        deadline = time.monotonic() + 60
        while not (found := re.search(r"http://\S+", log.read_text(encoding="utf-8"))):
            assert child.poll() is None, log.read_text(encoding="utf-8")
            assert time.monotonic() < deadline, "the service did not start"
            time.sleep(0.1)
        with Client(found[0]) as client:
            while True:
                try:
                    client.datasets()
                    break
                except OSError:
                    time.sleep(0.1)
                except Exception as error:
                    if "refused" not in str(error).lower():
                        raise
                    time.sleep(0.1)
            yield client
    finally:
        child.terminate()
        child.wait()


def register(client: Client, names: list[str]) -> None:
    known = {model.name for model in client.models().items}
    for entry in json.loads((SHARED / "manifest.json").read_text(encoding="utf-8")):
        if entry["name"] in names and entry["name"] not in known:
            made = client.add_model(
                ModelCreate(
                    name=entry["name"],
                    architecture=entry["timm"],
                    arch_kwargs=entry["arch_kwargs"],
                    weights=f"file:{(SHARED / entry['file']).resolve()}",
                    mean=tuple(entry["mean"]),
                    std=tuple(entry["std"]),
                    input_size=entry["input_size"][-1],
                )
            )
            assert client.wait_for_model(made.id).state == "ready"


def prepare(client: Client, data_dir: Path, images: int, names: list[str]) -> None:
    register(client, names)
    new = max(1, round(NEW_SHARE * images))
    for name, numbers in {
        "warm": range(10**6, 10**6 + 4 * CLASSES),
        "base": range(images),
        "new": range(2 * 10**6, 2 * 10**6 + new),
    }.items():
        archive(data_dir / f"{name}.zip", numbers)
    for name in ("warm", "base"):
        started = time.perf_counter()
        client.wait_for_dataset(client.upload_dataset(data_dir / f"{name}.zip", name=name).id)
        print(f"{name}: uploaded, checked and sealed in {time.perf_counter() - started:.1f} s", flush=True)
    relabel = {  # one in ten of every class
        f"train/class{n % CLASSES}/{n}.jpg": f"class{(n + 1) % CLASSES}"
        for n in range(images)
        if n // CLASSES % RELABELLED_EVERY == 0
    }
    for name, changes in (
        ("1 % new images", data_dir / "new.zip"),
        ("10 % relabelled", VersionCreate(relabel=relabel)),
    ):
        started = time.perf_counter()
        view = client.wait_for_dataset(client.make_version("base", changes, name=name).id)
        print(f"{name}: version made in {time.perf_counter() - started:.2f} s, {view.changes}", flush=True)


def ranked(client: Client, dataset: str, names: list[str]) -> tuple[float, RankingView]:
    started = time.perf_counter()
    ranking = client.create_ranking(RankingCreate(dataset=dataset, models=names))
    while (view := client.ranking(ranking.id)).state not in {"done", "failed", "cancelled"}:
        time.sleep(max(POLL_SECONDS, (time.perf_counter() - started) / 50))
    seconds = time.perf_counter() - started
    assert view.state == "done", view
    assert all(entry.state == "done" for entry in view.entries), view
    return seconds, view


def measure(client: Client, names: list[str]) -> dict[str, float]:
    seconds = {"warm-up": ranked(client, "warm", names)[0]}
    for step, dataset in (
        ("first ranking", "base"),
        ("second ranking", "base"),
        ("10 % relabelled", "10 % relabelled"),
        ("1 % new images", "1 % new images"),
    ):
        seconds[step], view = ranked(client, dataset, names)
        scoring = sum(score.seconds for entry in view.entries for score in entry.scores.values())
        share = "" if step == "first ranking" else f" = {seconds[step] / seconds['first ranking']:.2%} of the first"
        bound = f" (bound {BOUNDS[step]:.0%})" if step in BOUNDS else ""
        print(f"{step}: {seconds[step]:.2f} s{share}{bound}; estimators {scoring:.2f} s", flush=True)
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", type=Path, required=True, help="kept: give a new one for another run")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--models", default="mobilenetv2_100_in1k_q,resnet18_arteyes")
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--measure", action="store_true")
    options = parser.parse_args()
    names = options.models.split(",")
    options.data_dir.mkdir(parents=True, exist_ok=True)
    both = options.prepare == options.measure
    with serving(options.data_dir) as client:
        if options.prepare or both:
            prepare(client, options.data_dir, options.images, names)
        if options.measure or both:
            seconds = measure(client, names)
            kept = all(seconds[step] <= bound * seconds["first ranking"] for step, bound in BOUNDS.items())
            print(json.dumps({"images": options.images, "models": names, "seconds": seconds, "within_bounds": kept}))
            return 0 if kept else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
