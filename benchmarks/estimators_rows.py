"""Real features for `benchmarks.estimators_uncertainty`: every model's of every image of a set, training and test.

python -m benchmarks.estimators_rows FOLDER [--models NAME...] [--datasets NAME...]

Models and sets are those of ../shared/data. FOLDER gets `<model>__<dataset>.npz`; what is there is not made again.
"""

import argparse
import zipfile
from pathlib import Path

import numpy as np
import torch

from benchmarks import embedding_data as data
from zoo.extract import Extractor
from zoo.preprocess import decode, prepare

BATCH = 16


def every_image(dataset: str) -> list[tuple[bytes, str]]:
    """Bytes and class of each image of the set, in the order of their names."""
    with zipfile.ZipFile(data.IMAGES / f"{dataset}.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".png"))
        return [(archive.read(name), name.split("/")[-2]) for name in names]


def write(extractor: Extractor, images: list[tuple[bytes, str]], path: Path) -> None:
    classes = sorted({label for _, label in images})
    pixels = (prepare(decode(blob), extractor.card.preprocess) for blob, _ in images)
    found = [extractor.forward(part) for part in torch.split(torch.stack(list(pixels)), BATCH)]
    arrays = {"features": torch.cat([features for features, _ in found]).numpy()}
    if extractor.num_classes:
        arrays["probs"] = torch.cat([probs for _, probs in found if probs is not None]).numpy()
    np.savez(path, labels=np.array([classes.index(label) for _, label in images]), **arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="+", help="all of ../shared/data/weights if not given")
    parser.add_argument("--datasets", nargs="+", help="all of ../shared/data/images if not given")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    extractors = data.shared_extractors(arguments.folder)
    datasets = arguments.datasets or sorted(path.stem for path in data.IMAGES.glob("*.zip"))
    images = {dataset: every_image(dataset) for dataset in datasets}
    for name in arguments.models or extractors:
        for dataset in datasets:
            path = arguments.folder / f"{name}__{dataset}.npz"
            if not path.exists():
                write(extractors[name], images[dataset], path)
                print(path.stem, flush=True)


if __name__ == "__main__":
    main()
