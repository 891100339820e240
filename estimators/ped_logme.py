"""PED with LogME inside."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from estimators.blocks import BlockMoments
from estimators.errors import InvalidInput
from estimators.logme import evidence_of_means
from estimators.logme_published import logme_published
from estimators.moments import ClassMoments
from estimators.ped import describe, moved_rows, moves
from estimators.score import Score
from estimators.shared import Options, Value, evaluate_case, make_case
from estimators.view import View


def ped_logme(
    features: Tensor | ClassMoments | BlockMoments,
    labels: Tensor | None = None,
    /,
    *,
    background: tuple[Tensor, Tensor] | None = None,
    nsigma: float = 0.6,
    variant: Literal["exact", "published"] = "exact",
    blocks: Tensor | None = None,
) -> Score:
    r"""LogME after potential-energy decline: classes that overlap are pushed apart first, as fine-tuning would.

    In coordinates standardised by the background, classes are balls of radius R_c = sqrt(sum_d v_cd) that repel where
    nsigma (R_a + R_b) exceeds the distance of their means (`estimators.ped.moves`). LogME is taken of the moved rows.

    Args:
        features: Features `[N, D]`, float32 or float64, finite; or moments of them.
        labels: Class ids `[N]` (any integers), or None where `features` are moments.
        background: Mean `[D]` and standard deviation `[D]` of the same model's features of generic images. Without it
            the target's own are used, and the diagnostic `background` says "none": another variant of the score.
        nsigma: Radius of a class in units of R_c; scores compare at equal nsigma only.
        variant: "exact", or "published": LogME's authors' fixed point on the moved rows, for comparison with papers.
        blocks: Block number of each row `[N]` (see `estimators.blocks`); gives a standard error and replicates.

    Returns:
        Score in nats per image, higher is better (see `estimators.logme`). The diagnostic
        `status` says "moved", "no_overlap" (nothing moves: the plain value) or "coincident_means" (a pair without a
        direction to part in did not push).

    Raises:
        InvalidInput: Shapes or dtypes do not agree, NaN or infinity, a background of another width, nsigma <= 0.
        Degenerate: As for LogME itself.

    Reference:
        Li, Hu, Ge, Shan, Duan, "Exploring Model Transferability through the Lens of Potential Energy", ICCV 2023,
        arXiv:2308.15074.

    Notes:
        A translation leaves the covariance of a class, so only class means move, by a `[C, C]` matrix: no row is
        touched and no `C x C x D` array is made. The published code moves rows, returns the plain value without a
        word where no two classes overlap or two means coincide, and has no form without features of ImageNet.
        The labels part the classes before a measure on the same rows, and part them further the wider the features: of
        200 images of noise in ten classes LogME is -0.27 at any width, and moved at nsigma 0.6 it is -0.19 at D = 64,
        -0.05 at 256, 0.10 at 1024 and 0.15 at 4096. Models of different width are not to be compared by it.
    """
    options = Options(nsigma=nsigma, background=background)
    if variant == "published":
        if not isinstance(features, Tensor) or labels is None:
            raise InvalidInput("the published variant is computed from features and labels, not from moments")
        return logme_published(moved_rows(features, labels, options), labels)
    if variant != "exact":
        raise InvalidInput(f"variant must be 'exact' or 'published', got {variant!r}")
    return evaluate_case(ped_logme_value, make_case(features, labels, blocks, rows=False), options)


def ped_logme_value(view: View, options: Options, /) -> Value:
    """PED+LogME of a view."""
    view.require_classes()
    view.require_spread()
    moved = moves(view, options)
    value, diagnostics = evidence_of_means(view, moved.mixing, "ped_logme")
    return value, {**diagnostics, **describe(moved, options)}
