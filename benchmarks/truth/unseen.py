"""How well models with no outcome anywhere are placed: by like names, by size beside them, and by their whole card.

python -m benchmarks.truth.unseen [--halves 20]

Of the truth benchmark's models and of the published pools whose architectures are known, half of the models lose
every outcome; they are then placed on each dataset in turn by what the other half got on the other datasets (on the
same one where the pool has no other). The agreement is SciPy's default weightedtau(truth, prediction) over the models
without outcomes.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scipy.stats import weightedtau

from benchmarks.truth.agreement import Matrix
from benchmarks.truth.pool import cards as pool
from benchmarks.truth.pool import params
from benchmarks.truth.tables import HERE, measured
from service.compute.finetuning import DEFAULT
from service.recommendations.prior import Cards, predict
from service.recommendations.published import published, sizes
from zoo.imagenet import imagenet_top1
from zoo.pretraining import pretrained_on

POOLS = ("fastai_timm", "modelspider_cnn", "sfda_supervised_cnn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--halves", type=int, default=20)
    options = parser.parse_args()
    for name, models, accuracy, known in pools():
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


def pools() -> Iterator[tuple[str, tuple[str, ...], Matrix, Cards]]:
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
        cells = {(known.dataset, known.model): known.accuracy for known in published() if known.pool == name}
        datasets, models = (tuple(sorted({key[side] for key in cells})) for side in (0, 1))
        yield (
            name,
            models,
            np.array([[cells[dataset, model] for model in models] for dataset in datasets]),
            Cards(
                np.array([sizes().get(model, np.nan) for model in models], dtype=np.float64),
                np.array([imagenet_top1().get(model, np.nan) for model in models]),
                [pretrained_on(model.partition(".")[2]) or "" for model in models],
            ),
        )


if __name__ == "__main__":
    main()
