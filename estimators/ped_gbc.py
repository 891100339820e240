"""PED with GBC inside."""

from __future__ import annotations

from torch import Tensor

from estimators.blocks import BlockMoments
from estimators.gbc import separation
from estimators.moments import ClassMoments
from estimators.ped import describe, moves
from estimators.score import Score
from estimators.shared import Options, Value, evaluate_case, make_case
from estimators.view import View


def ped_gbc(
    features: Tensor | ClassMoments | BlockMoments,
    labels: Tensor | None = None,
    /,
    *,
    background: tuple[Tensor, Tensor] | None = None,
    nsigma: float = 0.6,
    blocks: Tensor | None = None,
) -> Score:
    r"""GBC after potential-energy decline: classes that overlap are pushed apart first, as fine-tuning would.

    In coordinates standardised by the background, classes are balls of radius R_c = sqrt(sum_d v_cd) that repel where
    nsigma (R_a + R_b) exceeds the distance of their means (`estimators.ped.moves`). GBC is taken of the moved rows.

    Args:
        features: Features `[N, D]`, float32 or float64, finite; or moments of them.
        labels: Class ids `[N]` (any integers), or None where `features` are moments.
        background: Mean `[D]` and standard deviation `[D]` of the same model's features of generic images. Without it
            the target's own are used, and the diagnostic `background` says "none": another variant of the score.
        nsigma: Radius of a class in units of R_c; scores compare at equal nsigma only.
        blocks: Block number of each row `[N]` (see `estimators.blocks`); gives a standard error and replicates.

    Returns:
        Score in nats, higher is better (see `estimators.gbc`). The diagnostic
        `status` says "moved", "no_overlap" (nothing moves: the plain value) or "coincident_means" (a pair without a
        direction to part in did not push).

    Raises:
        InvalidInput: Shapes or dtypes do not agree, NaN or infinity, a background of another width, nsigma <= 0.
        Degenerate: As for GBC itself.

    Reference:
        Li, Hu, Ge, Shan, Duan, "Exploring Model Transferability through the Lens of Potential Energy", ICCV 2023,
        arXiv:2308.15074.

    Notes:
        What differs from the published moves is said in `estimators.ped_logme`. GBC's variances are those of the rows
        as they came: only class means differ from GBC itself. Like it, the value grows with D on noise: models of
        different width are not to be compared by it.
    """
    options = Options(nsigma=nsigma, background=background)
    return evaluate_case(ped_gbc_value, make_case(features, labels, blocks, rows=False), options)


def ped_gbc_value(view: View, options: Options, /) -> Value:
    """PED+GBC of a view."""
    view.require_classes()
    view.require_spread()
    moved = moves(view, options)
    value, diagnostics = separation(view, moved.mixing)
    return value, {**diagnostics, **describe(moved, options)}
