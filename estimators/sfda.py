"""SFDA: discriminant analysis after hard images are pushed together, measured on images held out."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from estimators.blocks import BlockMoments
from estimators.discriminant import held_out, leverages, posterior
from estimators.errors import Degenerate, InvalidInput
from estimators.moments import ClassMoments
from estimators.score import Score
from estimators.sfda_published import sfda_published
from estimators.shared import CREDITS, Options, Value, evaluate_case, make_case
from estimators.view import View

_FOLDS = 5


def sfda(
    features: Tensor | ClassMoments | BlockMoments,
    labels: Tensor | None = None,
    /,
    *,
    variant: Literal["held_out", "published"] = "held_out",
    blocks: Tensor | None = None,
) -> Score:
    r"""Held-out LDA of rows that were first mixed with the other classes, the less sure ones more.

    With p_i the held-out probability of image i's own class and q_i = exp(p_i)/sum_k exp(p_ik), each row becomes
    q_i x_i + (1 - q_i) m_{-y}, m_{-y} the mean of the other classes' means; the value is LDA's of the mixed rows.

    Args:
        features: Features `[N, D]`, float32 or float64, finite. Moments serve while they keep their rows (N < D).
        labels: Class ids `[N]` (any integers), or None where `features` are moments.
        variant: "held_out", or "published": the authors' constants, fitted and measured on the same rows.
        blocks: Block number of each row `[N]` (see `estimators.blocks`); gives a standard error and replicates.

    Returns:
        Score in [0, 1], higher is better.

    Raises:
        InvalidInput: Shapes or dtypes do not agree, NaN or infinity, moments without rows.
        Degenerate: As for LDA.

    Reference:
        Shao, Zhao, Ge, Zhang, Yang, Wang, Shan, Luo, "Not All Models Are Equal: Predicting Model Transferability in a
        Self-challenging Fisher Space", ECCV 2022, arXiv:2207.03036.

    Notes:
        The published score is fitted and measured on the same rows (1 for pure noise once D > N), and its shrinkage
        depends on the features' scale. Here both analyses are shrunk after Ledoit and Wolf, and five folds are held
        out of everything: the means that rows are mixed with, both analyses, and the probabilities they are mixed by.
        Leaving out one image at a time would not do: the mean of the other classes contains it. The mixing itself still
        uses the label of the image measured, as the method has it. Folds are dealt by distance from the mean, so that
        the order of the rows does not matter.
    """
    if variant == "published":
        if not isinstance(features, Tensor) or labels is None:
            raise InvalidInput("the published variant is computed from features and labels, not from moments")
        return sfda_published(features, labels)
    if variant != "held_out":
        raise InvalidInput(f"variant must be 'held_out' or 'published', got {variant!r}")
    return evaluate_case(sfda_value, make_case(features, labels, blocks, rows=True), Options())


def sfda_value(view: View, options: Options, /) -> Value:
    """SFDA of a view."""
    view.require_classes()
    view.require_spread()
    rows, classes = view.rows()
    rows = rows.to(torch.float64)
    if int(view.counts.min()) < 2:
        raise Degenerate("a class of one sample: nothing is left of it when its fold is held out")
    folds = _folds(rows, classes)
    own = torch.zeros(view.n, dtype=torch.float64, device=rows.device)
    shrinkage = 0.0
    for fold in range(_FOLDS):
        held = folds == fold
        own[held], shrinkage = _held_fold(rows, classes, held)
    view.memo[CREDITS] = own
    return float(own.mean()), {"folds": _FOLDS, "shrinkage": shrinkage}


def _held_fold(rows: Tensor, classes: Tensor, held: Tensor) -> tuple[Tensor, float]:
    """Probability of the own class of the rows held out, and the shrinkage of the analysis that gave it."""
    train, train_classes = rows[~held], classes[~held]
    view = View(ClassMoments.from_features(train, train_classes), features=train, classes=train_classes)
    others = (view.moments.means.sum(0) - view.moments.means) / (view.n_classes - 1)
    soft = held_out(view, None, soften=True).softened[:, None]
    mixed = soft * train + (1 - soft) * others[train_classes]
    tested, tested_classes = rows[held], classes[held]
    sure = torch.softmax(posterior(view, tested), 1).gather(1, tested_classes[:, None])
    again = View(ClassMoments.from_features(mixed, train_classes), features=mixed, classes=train_classes)
    moved = sure * tested + (1 - sure) * others[tested_classes]
    return posterior(again, moved).gather(1, tested_classes[:, None])[:, 0], leverages(again).shrinkage


def _folds(rows: Tensor, classes: Tensor) -> Tensor:
    """Folds that do not depend on the order of rows: dealt within each class by distance from the mean of all."""
    distance = (rows - rows.mean(0)).square().sum(1)
    order = distance.argsort(stable=True)
    order = order[classes[order].argsort(stable=True)]
    dealt = torch.arange(rows.shape[0], device=rows.device)
    start = torch.searchsorted(classes[order], classes[order])
    return torch.empty_like(dealt).scatter_(0, order, (dealt - start) % _FOLDS)
