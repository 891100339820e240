"""PED with LDA inside."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from estimators.blocks import BlockMoments
from estimators.discriminant import held_out
from estimators.errors import InvalidInput
from estimators.lda import summarise
from estimators.moments import ClassMoments
from estimators.ped import describe, moved_rows, moves
from estimators.score import Score
from estimators.sfda_published import sfda_published
from estimators.shared import Options, Value, evaluate_case, make_case
from estimators.view import View


def ped_lda(
    features: Tensor | ClassMoments | BlockMoments,
    labels: Tensor | None = None,
    /,
    *,
    background: tuple[Tensor, Tensor] | None = None,
    nsigma: float = 0.6,
    variant: Literal["held_out", "published"] = "held_out",
    blocks: Tensor | None = None,
) -> Score:
    r"""Held-out LDA after potential-energy decline: classes that overlap are pushed apart first.

    In coordinates standardised by the background, classes are balls of radius R_c = sqrt(sum_d v_cd) that repel where
    nsigma (R_a + R_b) exceeds the distance of their means (`estimators.ped.moves`). LDA is taken of the moved rows.

    Args:
        features: Features `[N, D]`, float32 or float64, finite. Moments serve while they keep their rows (N < D).
        labels: Class ids `[N]` (any integers), or None where `features` are moments.
        background: Mean `[D]` and standard deviation `[D]` of the same model's features of generic images. Without it
            the target's own are used, and the diagnostic `background` says "none": another variant of the score.
        nsigma: Radius of a class in units of R_c; scores compare at equal nsigma only.
        variant: "held_out", or "published": SFDA as published on the moved rows, for comparison with papers.
        blocks: Block number of each row `[N]` (see `estimators.blocks`); gives a standard error and replicates.

    Returns:
        Score in [0, 1], higher is better (see `estimators.lda`). The diagnostic `status` says "moved", "no_overlap"
        (nothing moves: the plain value) or "coincident_means" (a pair without a direction to part in did not push).

    Raises:
        InvalidInput: Shapes or dtypes do not agree, NaN or infinity, a background of another width, nsigma <= 0.
        Degenerate: As for LDA itself.

    Reference:
        Li, Hu, Ge, Shan, Duan, "Exploring Model Transferability through the Lens of Potential Energy", ICCV 2023,
        arXiv:2308.15074.

    Notes:
        Each image is held out of the analysis, but not of the moves, which used its label: on noise the value lies
        above 1/C, the more so the wider the features. Models of different width are not to be compared by it.
        Only class means move, so the held-out analysis shares its factorisation with LDA's: the two together cost
        little more than one.
    """
    options = Options(nsigma=nsigma, background=background)
    if variant == "published":
        if not isinstance(features, Tensor) or labels is None:
            raise InvalidInput("the published variant is computed from features and labels, not from moments")
        return sfda_published(moved_rows(features, labels, options), labels)
    if variant != "held_out":
        raise InvalidInput(f"variant must be 'held_out' or 'published', got {variant!r}")
    return evaluate_case(ped_lda_value, make_case(features, labels, blocks, rows=True), options)


def ped_lda_value(view: View, options: Options, /) -> Value:
    """PED+LDA of a view."""
    view.require_classes()
    view.require_spread()
    moved = moves(view, options)
    value, diagnostics = summarise(view, held_out(view, moved.mixing))
    return value, {**diagnostics, **describe(moved, options)}
