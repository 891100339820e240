"""PED with SFDA inside, transcribed loop by loop from its published definition and constants.

Provenance: Li et al., "Exploring Model Transferability through the Lens of Potential Energy", ICCV 2023,
arXiv:2308.15074, with the constants of the authors' released code: step 0.1, nsigma 0.6, unit force constant, exit
ratio 0.5, at most six accepted steps, deviations floored at 1e-3, rescaling by the same model's features of generic
images before every step and back after it. Written from the definition; shares no code with `estimators`.
Pinned to the ratios of each step's change to the first's that the released code gave at its defaults: .975, .951, .927,
.904, .882; five classes at equal distances give 0.975 to the power of the step.
"""

import math

import numpy as np

from tests.oracles.features_sfda import sfda

STEP = 0.1
EXIT_RATIO = 0.5
MAX_STEPS = 6
FLOOR = 1e-3


def one_step(X, y, mean, deviation, nsigma):
    """Move each class once; return the moved rows and the summed absolute shift in the rescaled space."""
    Z = (X - mean) / deviation
    classes = sorted(set(y.tolist()))
    centres, radii = [], []
    for c in classes:
        own = Z[y == c]
        centre = own.sum(0) / len(own)
        variance = ((own - centre) ** 2).sum(0) / len(own)
        centres.append(centre)
        radii.append(math.sqrt(float(variance.sum())))
    shifts = [np.zeros(X.shape[1]) for _ in classes]
    for a in range(len(classes)):
        for b in range(a + 1, len(classes)):
            apart = centres[b] - centres[a]
            distance = math.sqrt(float((apart**2).sum()))
            force = max(nsigma * radii[a] + nsigma * radii[b] - distance, 0.0)
            length = min(0.5 * STEP**2 * force, force)
            shifts[a] = shifts[a] - length * apart / distance
            shifts[b] = shifts[b] + length * apart / distance
    moved = np.zeros_like(Z)
    for i in range(len(Z)):
        moved[i] = Z[i] + shifts[classes.index(y[i])]
    change = sum(float(np.abs(shift).sum()) for shift in shifts)
    return moved * deviation + mean, change


def ped_moves(X, y, background, nsigma=0.6):
    """Return the moved rows, and the ratio of each accepted step's change to the first step's."""
    X = np.array(X, dtype=np.float64)
    y = np.asarray(y)
    mean = background.sum(0) / len(background)
    deviation = np.maximum(np.sqrt(((background - mean) ** 2).sum(0) / len(background)), FLOOR)
    ratios, first = [], None
    while len(ratios) < MAX_STEPS:
        moved, change = one_step(X, y, mean, deviation, nsigma)
        if first is None:
            first = change
        if first == 0 or not change / first > EXIT_RATIO:
            break
        X = moved
        ratios.append(change / first)
    return X, ratios


def ped_sfda(X, y, background, nsigma=0.6):
    moved, _ = ped_moves(X, y, background, nsigma)
    return sfda(moved, y)
