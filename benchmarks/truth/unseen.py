"""How well models with no outcome anywhere are placed: by like names, and by like names and size.

python -m benchmarks.truth.unseen --outcomes FILE [--halves 20]

Of published pools whose architectures are known, half of the models lose every outcome; they are then placed on each
dataset in turn by what the other half got on the other datasets (on the same one where the pool has no other). The
agreement is SciPy's default weightedtau(truth, prediction) over the models without outcomes.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.stats import weightedtau

from benchmarks.truth.prior import table
from service.recommendations.prior import predict
from service.recommendations.published import sizes

POOLS = ("fastai_timm", "modelspider_cnn", "sfda_supervised_cnn")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outcomes", type=Path, required=True)
    parser.add_argument("--halves", type=int, default=20)
    options = parser.parse_args()
    for pool in POOLS:
        datasets, models, accuracy = table(options.outcomes, pool)
        large = np.array([sizes().get(name, np.nan) for name in models], dtype=np.float64)
        found: dict[str, list[float]] = {"names": [], "names and size": []}
        for half in range(options.halves):
            unseen = np.random.default_rng(half).permutation(len(models))[: len(models) // 2]
            for at, truth in enumerate(accuracy):
                others = np.delete(accuracy, at, 0) if len(datasets) > 1 else accuracy.copy()
                others[:, unseen] = np.nan
                for name, given in (("names", None), ("names and size", large)):
                    value = predict(others, np.full(len(models), np.nan), models, sizes=given).value
                    found[name].append(weightedtau(truth[unseen], value[unseen]).statistic)
        said = ", ".join(
            f"{name} {np.nanmean(taus):.3f} ± {np.nanstd(taus) / len(taus) ** 0.5:.3f}" for name, taus in found.items()
        )
        print(f"{pool} ({len(models)} models, {len(datasets)} datasets): {said}", flush=True)


if __name__ == "__main__":
    main()
