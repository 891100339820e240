"""How well models with no outcome anywhere are placed: by like names, by size beside them, and by their whole card.

python -m benchmarks.truth.unseen --outcomes FILE [--halves 20]

Of the truth benchmark's models and of published pools whose architectures are known, half of the models lose every
outcome; they are then placed on each dataset in turn by what the other half got on the other datasets (on the same one
where the pool has no other). The agreement is SciPy's default weightedtau(truth, prediction) over the models without
outcomes.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import weightedtau

from benchmarks.truth.agreement import Matrix
from benchmarks.truth.pool import cards as pool
from benchmarks.truth.pool import params
from benchmarks.truth.prior import table
from benchmarks.truth.tables import HERE, measured
from service.compute.finetuning import DEFAULT
from service.recommendations.prior import Cards, predict
from service.recommendations.published import known_models
from zoo.imagenet import imagenet_top1
from zoo.pretraining import pretrained_on

POOLS = ("fastai_timm", "modelspider_cnn", "sfda_supervised_cnn")
OF_TORCHVISION = ("modelspider_cnn", "sfda_supervised_cnn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outcomes", type=Path, required=True)
    parser.add_argument("--halves", type=int, default=20)
    options = parser.parse_args()
    for name, models, accuracy, known in pools(options.outcomes):
        nothing = np.full(len(models), np.nan)
        of_size = replace(known, imagenet=nothing, pretrained=[""] * len(models))
        found: dict[str, list[float]] = {"names": [], "names and size": [], "cards": []}
        for half in range(options.halves):
            unseen = np.random.default_rng(half).permutation(len(models))[: len(models) // 2]
            for at, truth in enumerate(accuracy):
                others = np.delete(accuracy, at, 0) if len(accuracy) > 1 else accuracy.copy()
                others[:, unseen] = np.nan
                for by, given in zip(found, (None, of_size, known), strict=True):
                    value = predict(others, nothing, models, cards=given).value
                    found[by].append(weightedtau(truth[unseen], value[unseen]).statistic)
        said = ", ".join(
            f"{by} {np.nanmean(taus):.3f} ± {np.nanstd(taus) / len(taus) ** 0.5:.3f}" for by, taus in found.items()
        )
        print(f"{name} ({len(models)} models, {len(accuracy)} datasets): {said}", flush=True)


def pools(outcomes: Path) -> Iterator[tuple[str, tuple[str, ...], Matrix, Cards]]:
    own, zoo = measured(HERE / "outcomes.csv", DEFAULT.id), pool()
    own = own.only(own.complete)
    yield (
        "fine-tuned here",
        own.models,
        own.accuracy,
        Cards(
            np.array([float(params(zoo[m])) for m in own.models]),
            np.array([zoo[m].imagenet_top1 or np.nan for m in own.models]),
            [zoo[m].pretrained_on or "" for m in own.models],
        ),
    )
    for name in POOLS:
        _, models, accuracy = table(outcomes, name)
        named = [_published(name, model) for model in models]
        sizes = [known_models()[n].params if n in known_models() else None for n in named]
        entries = [(known_models()[n].weights if n in known_models() else None) or n for n in named]
        yield (
            name,
            tuple(models),
            accuracy,
            Cards(
                np.array([size or np.nan for size in sizes], dtype=np.float64),
                np.array([imagenet_top1().get(entry, np.nan) for entry in entries]),
                [pretrained_on(entry.partition(".")[2]) or "" for entry in entries],
            ),
        )


def _published(name: str, model: str) -> str:
    """What the table that ships calls it."""
    tagged = f"{model}.tv_in1k"
    return tagged if name in OF_TORCHVISION and tagged in known_models() else model


if __name__ == "__main__":
    main()
