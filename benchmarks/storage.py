"""What storing features in float16 does to scores, on real models and images: ../shared/data beside the project.

python -m benchmarks.storage --cache DIR
"""

import argparse
import sys
from pathlib import Path

import torch

from benchmarks import embedding_data as data
from estimators.evidence import Evidence
from estimators.panel import evaluate
from service.embeddings.segment import in_half
from zoo.preprocess import decode, prepare

SCORES = ("logme", "knn", "h_score", "gbc")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path(".cache/zoo"), help="where fetched weights are kept")
    parser.add_argument("--images", type=int, default=300)
    given = parser.parse_args()
    extractors = data.shared_extractors(given.cache)
    if not extractors or not data.IMAGES.is_dir():
        print("nothing to measure without ../shared/data", file=sys.stderr)
        return 1
    for dataset in ("cifar10", "xray3"):
        examples = data.labelled(dataset, given.images)
        names = sorted({label for _, label in examples})
        labels = torch.tensor([names.index(label) for _, label in examples])
        print(f"\n{dataset}, {len(examples)} images: relative change of each score (of LogME's stated error)")
        logme: dict[str, list[float]] = {"float32": [], "float16": []}
        for name, extractor in extractors.items():
            pixels = torch.stack([prepare(decode(blob), extractor.card.preprocess) for blob, _ in examples])
            exact = torch.cat([extractor.forward(part)[0] for part in torch.split(pixels, 16)])
            halves = in_half(exact.numpy())
            if halves is None:
                print(f"{name:28} stays in float32")
                halves = exact.numpy()
            stored = torch.from_numpy(halves.astype("float32"))
            a, b = (evaluate(Evidence(labels=labels, features=rows), SCORES) for rows in (exact, stored))
            told = []
            for score in SCORES:
                one, two = a[score].score, b[score].score
                told.append("—" if one is None or two is None else f"{abs(two.value - one.value) / abs(one.value):.1e}")
                if score == "logme" and one is not None and two is not None:
                    logme["float32"].append(one.value)
                    logme["float16"].append(two.value)
                    told[-1] += f" ({abs(two.value - one.value) / one.stderr:.4f})" if one.stderr else ""
            largest = float(exact.abs().max())
            line = "  ".join(f"{score} {value}" for score, value in zip(SCORES, told, strict=True))
            print(f"{name:28} largest {largest:8.2f}  {line}", flush=True)
        ranks = [sorted(range(len(values)), key=values.__getitem__) for values in logme.values()]
        print("ranks by LogME are the same" if ranks[0] == ranks[1] else f"ranks by LogME differ: {ranks}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
