"""bfloat16 against float32: features, scores and ranks, on images that all models see."""

from collections.abc import Mapping
from typing import Any

import torch

from benchmarks import embedding_data as data
from estimators.evidence import Evidence
from estimators.panel import evaluate
from service.compute.precision import LEAST_COSINE, PROBE_IMAGES, compare
from zoo.extract import Extractor
from zoo.preprocess import decode, prepare

IMAGES = 150
SCORES = ("logme", "knn")


def parity(extractors: Mapping[str, Extractor]) -> list[dict[str, Any]]:
    """Prints and returns one row a model and dataset; ranks are places by LogME among all models."""
    rows: list[dict[str, Any]] = []
    for dataset in ("cifar10", "xray3") if data.IMAGES.is_dir() else ():
        examples = data.labelled(dataset, IMAGES)
        names = sorted({label for _, label in examples})
        labels = torch.tensor([names.index(label) for _, label in examples])
        mine = [_row(extractor, dataset, [blob for blob, _ in examples], labels) for extractor in extractors.values()]
        for precision in ("float32", "bfloat16"):
            ordered = sorted(mine, key=lambda row: -row["logme"][precision])
            for place, row in enumerate(ordered, start=1):
                row["rank"][precision] = place
        print(
            f"\n{dataset}, {IMAGES} images; the probe's verdict on the first {PROBE_IMAGES} (cosine ≥ {LEAST_COSINE})"
        )
        print(
            f"{'model':28} {'cosine':>8} {'least':>8} {'LogME':>9} {'Δ':>9} {'± s.e.':>8}"
            f" {'kNN':>7} {'Δ':>8} {'rank':>9}  probe"
        )
        for row in sorted(mine, key=lambda row: row["rank"]["float32"]):
            logme, knn, rank = row["logme"], row["knn"], row["rank"]
            print(
                f"{row['model']:28} {row['cosine']:8.5f} {row['least']:8.5f} {logme['float32']:9.4f}"
                f" {logme['bfloat16'] - logme['float32']:+9.4f} {logme['stderr']:8.4f} {knn['float32']:7.3f}"
                f" {knn['bfloat16'] - knn['float32']:+8.3f} {rank['float32']:4} → {rank['bfloat16']:2}  {row['probe']}",
                flush=True,
            )
        rows += mine
    return rows


def _row(exact: Extractor, dataset: str, blobs: list[bytes], labels: torch.Tensor) -> dict[str, Any]:
    pixels = torch.stack([prepare(decode(blob), exact.card.preprocess) for blob in blobs])
    lower = exact.cast("bfloat16")
    a, b = (torch.cat([e.forward(part)[0].cpu() for part in torch.split(pixels, 16)]) for e in (exact, lower))
    cosine = torch.nn.functional.cosine_similarity(a.double(), b.double())
    row: dict[str, Any] = {
        "model": exact.card.name,
        "dataset": dataset,
        "cosine": float(cosine.mean()),
        "least": float(cosine.min()),
        "rank": {},
    }
    for name in SCORES:
        one, two = (evaluate(Evidence(labels=labels, features=f), [name])[name].score for f in (a, b))
        assert one is not None
        assert two is not None
        row[name] = {"float32": one.value, "bfloat16": two.value, "stderr": one.stderr}
    probe = compare(exact, lower, pixels[:PROBE_IMAGES], labels[:PROBE_IMAGES])
    row["probe"] = "agrees" if probe.refused is None or "not faster" in probe.refused else probe.refused
    row["gain"] = probe.gain
    return row
