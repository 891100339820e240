"""PED's moves: class means that push each other apart as far as the classes overlap."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from estimators.errors import InvalidInput
from estimators.moments import ClassMoments
from estimators.shared import Options
from estimators.view import View

_STEP_LENGTH = 0.5 * 0.1**2  # half the square of the time step, the force constant being one
_LEAST_DEVIATION = 1e-3
_STEPS = 6
_EXIT_RATIO = 0.5
_COINCIDENT = 1e-12  # of the two radii: a distance below it has no direction


@dataclass(frozen=True, slots=True, eq=False)
class Moves:
    """Where PED moves the class means.

    Attributes:
        mixing: `[C, C]`, rows summing to one: the moved means are `mixing @ means`, in any coordinates.
        steps: Steps accepted.
        status: "moved"; "no_overlap" if no two classes overlap, so that nothing moves; "coincident_means" if some
            pair overlaps with no direction to part in, and does not push.
        background: "given" or "none".
    """

    mixing: Tensor
    steps: int
    status: str
    background: str


def moves(view: View, options: Options, /) -> Moves:
    """Potential-energy decline on class moments: translations leave the class covariances, so only means change.

    In coordinates standardised by the background, with R_c the root of the summed variances of class c, d_ab the
    distance of two means and F_ab = max(nsigma (R_a + R_b) - d_ab, 0), one step adds
    sum_b 0.005 F_ab (mu_a - mu_b)/d_ab to mu_a. Steps are taken until the total movement falls to half that of the
    first, which is then not taken, or six times.
    """
    if not (math.isfinite(options.nsigma) and options.nsigma > 0):
        raise InvalidInput(f"nsigma must be positive, got {options.nsigma}")
    key = f"ped:{options.nsigma}:{options.background is None}"
    known = view.memo.get(key)
    if isinstance(known, Moves):
        return known
    m = view.moments
    if options.background is None:
        centre, deviation = m.mean, m.std
    else:
        centre, deviation = (part.to(m.shift.device, torch.float64) for part in options.background)
        if centre.shape != m.shift.shape or deviation.shape != m.shift.shape:
            raise InvalidInput(f"the background is of another width than the features: {tuple(centre.shape)}")
        if not bool(centre.isfinite().all() and deviation.isfinite().all()) or bool((deviation < 0).any()):
            raise InvalidInput("the background must be finite, its deviation not negative")
    scale = deviation.clamp_min(_LEAST_DEVIATION)
    means = (m.means - centre) / scale
    radii = (m.variances / scale.square()).sum(1).sqrt()
    reach = options.nsigma * (radii[:, None] + radii)
    reach.fill_diagonal_(0.0)
    mixing = torch.eye(view.n_classes, dtype=torch.float64, device=means.device)
    first, steps, coincident = 0.0, 0, False
    while steps < _STEPS:
        push, stuck = _push(means, reach)
        shift = push.sum(1)[:, None] * means - push @ means
        change = float(shift.abs().sum())
        coincident = coincident or stuck
        if steps == 0:
            first = change
        if first == 0 or change <= _EXIT_RATIO * first:
            break
        mixing = mixing + push.sum(1)[:, None] * mixing - push @ mixing
        means = means + shift
        steps += 1
    status = "coincident_means" if coincident else "moved" if steps else "no_overlap"
    found = Moves(mixing, steps, status, "none" if options.background is None else "given")
    view.memo[key] = found
    return found


def _push(means: Tensor, reach: Tensor) -> tuple[Tensor, bool]:
    """The push of each pair over its distance `[C, C]`, and whether some pair coincides."""
    centred = means - means.mean(0)
    products = centred @ centred.T
    norms = products.diagonal()
    distance = (norms[:, None] + norms - 2 * products).clamp_min(0.0).sqrt()
    overlap = (reach - distance).clamp_min(0.0)
    # the Gram form leaves this much of a distance of zero
    blurred = torch.sqrt(1e-15 * (norms[:, None] + norms)) * 10
    apart = distance > torch.maximum(_COINCIDENT * reach, blurred)
    push = torch.where(apart, _STEP_LENGTH * overlap / distance.clamp_min(1e-300), 0.0)
    stuck = (~apart) & (overlap > 0)
    stuck.fill_diagonal_(False)
    return push, bool(stuck.any())


def describe(moved: Moves, options: Options, /) -> dict[str, float | int | bool | str]:
    """What belongs to the identity of a PED score."""
    return {
        "nsigma": options.nsigma,
        "steps": moved.steps,
        "status": moved.status,
        "background": moved.background,
    }


def moved_rows(features: Tensor, labels: Tensor, options: Options, /) -> Tensor:
    """The rows `[N, D]` float64 after the moves, for measures that take rows."""
    moments = ClassMoments.from_features(features, labels)
    view = View(moments)
    view.require_classes()
    means = moments.means
    shift = moves(view, options).mixing @ means - means
    index = torch.searchsorted(torch.tensor(moments.labels, device=features.device), labels.to(features.device))
    return features.to(torch.float64) + shift[index]
