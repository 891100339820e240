"""The linear probe."""

from typing import Literal

import torch
from torch import Tensor

from estimators._rows import Targets, class_counts, feature_rows, paired_targets, targets
from estimators._rows_jackknife import block_count, jackknife_blocks, jackknife_score, without_interactions
from estimators._rows_logistic import fit_logistic
from estimators._rows_quality import quality, row_credits
from estimators._rows_ridge import Ridge, fit_ridge
from estimators._rows_subset import subset
from estimators.blocks import block_ids
from estimators.errors import Degenerate, InvalidInput
from estimators.score import Score

Probe = Literal["ridge", "logistic"]

_PENALTIES = tuple(10.0 ** (step / 2) for step in range(-6, 9))


def linear_probe(
    features: Tensor,
    labels: Tensor,
    /,
    *,
    probe: Probe = "ridge",
    max_rows: int = 10_000,
    blocks: Tensor | None = None,
    test_features: Tensor | None = None,
    test_labels: Tensor | None = None,
) -> Score:
    r"""How well a linear map of the frozen features predicts the label of an image that it was not fitted to.

    Ridge: $\hat Y = HY$ with $H = \tfrac1N \mathbf 1 \mathbf 1^\top + U \tfrac{S^2}{S^2 + \lambda} U^\top$ from the
    singular vectors of the centred features; the prediction of image i by a fit without it is
    $y_i - (y_i - \hat y_i) / (1 - H_{ii})$. Logistic: $\min_{W, b} \tfrac1N \sum_i -\log
    \mathrm{softmax}(W x_i + b)_{y_i} + \tfrac{1}{2N} \|W\|^2$ on training rows scaled to a mean square of one a column.

    Args:
        features: `[N, D]`, floating point, finite.
        labels: Integers `[N]` (classification), indicators 0 and 1 `[N, L]` (multi-label), or floats `[N]`
            (regression). Dtype and shape decide the task.
        probe: `ridge` (leave-one-out, or on test rows), or `logistic` (classification on test rows alone).
        max_rows: Beyond so many rows, the fit is to a subsample of this size that does not depend on their order.
        blocks: Block number of each row `[N]` (see `estimators.blocks`); gives a standard error and replicates.
        test_features: `[M, D]`; with them the probe is fitted on `features` and measured here.
        test_labels: Labels of `test_features`, of the same task.

    Returns:
        Classification: accuracy in [0, 1]. Multi-label: mean average precision in (0, 1] over the labels that are both
        present and absent. Regression: R² against the mean of the other rows, in (-inf, 1]. Higher is better. `stderr`
        is the delete-one-block jackknife at the penalty of the whole. Diagnostics: `task`, `probe`, `penalty`
        ($\lambda$ over the mean square of a centred row), `rank`, `rows`, `subsampled`, `singleton_classes`,
        `jackknife_factor`; `converged` and `n_iter` (logistic).

    Raises:
        InvalidInput: Wrong shapes or dtypes, NaN or infinity, one test argument alone, logistic without test rows or
            on another task than classification.
        Degenerate: One class, constant targets, identical rows, or too few rows to leave one out.

    Reference:
        G. Alain, Y. Bengio. Understanding intermediate layers using linear classifier probes. ICLR 2017 workshop.
        arXiv:1610.01644. Leave-one-out: D. M. Allen. The relationship between variable selection and data augmentation
        and a method for prediction. Technometrics 16(1), 1974.

    Notes:
        Published probes are trained by unregularised gradient descent for a fixed number of steps, where the scale of
        the features decides the accuracy. Here the penalty is chosen among 15 by leave-one-out squared error (never by
        the accuracy that is reported), relative to the features' own scale, so that scaled or shifted features score
        the same. Ridge fits indicators, not probabilities; the largest wins, and a tie goes to the lowest class. The
        class shares are those of all images: were they of all but one, the image left out would make its own class
        the rarest, and features that say nothing would score far below chance.

        Deleting a block needs no new fit: the block's part is taken out of $I - H$ in closed form. What a deletion
        does twice over to an accuracy is taken out as in `knn`.
    """
    if probe not in ("ridge", "logistic"):
        raise InvalidInput(f"probe must be 'ridge' or 'logistic', got {probe!r}")
    if (test_features is None) != (test_labels is None):
        raise InvalidInput("test_features and test_labels go together")
    if max_rows < 3:
        raise InvalidInput(f"max_rows must be at least 3, got {max_rows}")
    rows = feature_rows(features)
    n = rows.shape[0]
    truth = targets(labels, n)
    labels = labels.to(rows.device)
    chosen = subset(rows, max_rows)
    block = jackknife_blocks(blocks, n).to(rows.device)
    if chosen.numel() < n:
        rows, labels = rows[chosen], labels[chosen]
        truth = targets(labels, chosen.numel())
        block = torch.unique(block[chosen], return_inverse=True)[1]
    if rows.shape[0] < 3:
        raise Degenerate("fewer than three rows: nothing is left to fit when one is left out")
    diagnostics: dict[str, float | int | bool | str] = {
        "task": truth.task,
        "probe": probe,
        "rows": rows.shape[0],
        "subsampled": rows.shape[0] < n,
        "singleton_classes": int((class_counts(truth.values) == 1).sum()) if truth.task == "classification" else 0,
    }
    if test_features is None or test_labels is None:
        if probe == "logistic":
            raise InvalidInput("the logistic probe needs test rows: leave-one-out has no closed form for it")
        return _leave_one_out(rows, truth, block, diagnostics)
    test_rows = feature_rows(test_features, name="test_features").to(rows.device)
    if test_rows.shape[1] != rows.shape[1]:
        raise InvalidInput(f"features have {rows.shape[1]} columns, test_features {test_rows.shape[1]}")
    test_labels = test_labels.to(rows.device)
    truth, test_values = paired_targets(truth, labels, test_labels, rows.shape[0], test_rows.shape[0])
    test_block = block_ids(test_labels, n_blocks=max(2, int(block.max()) + 1))
    if probe == "logistic":
        if truth.task != "classification":
            raise InvalidInput(f"the logistic probe is for classification, the labels are {truth.task}")
        return _logistic_split(rows, truth, test_rows, test_values, block, test_block, diagnostics)
    return _ridge_split(rows, truth, test_rows, test_values, block, test_block, diagnostics)


def _leave_one_out(
    rows: Tensor, truth: Targets, block: Tensor, diagnostics: dict[str, float | int | bool | str]
) -> Score:
    fit = fit_ridge(rows, _regressands(truth), _PENALTIES)
    everything = torch.ones_like(block, dtype=torch.bool)
    prior = _prior(truth, everything)
    outputs: list[tuple[Tensor, Tensor, Tensor | None]] = [(fit.loo + prior, everything, None)]
    for b in range(block_count(block)):
        if int((block != b).sum()) < 3:
            outputs = outputs[:1]
            break
        kept = block != b
        outputs.append((fit.without(block == b) + _prior(truth, kept), kept, None))
    diagnostics |= {"penalty": fit.penalty, "rank": fit.singular.numel()}
    return _scored(truth, truth.values, block, outputs, diagnostics)


def _ridge_split(
    rows: Tensor,
    truth: Targets,
    test_rows: Tensor,
    test_values: Tensor,
    block: Tensor,
    test_block: Tensor,
    diagnostics: dict[str, float | int | bool | str],
) -> Score:
    fit: Ridge = fit_ridge(rows, _regressands(truth), _PENALTIES)
    everything = torch.ones_like(test_block, dtype=torch.bool)
    outputs: list[tuple[Tensor, Tensor, Tensor | None]] = [(fit.predict(test_rows), everything, fit.values.mean(0))]
    for b in range(block_count(block)):
        kept = test_block != b
        if not bool(kept.any()) or not bool((block != b).any()):
            outputs = outputs[:1]
            break
        outputs.append((fit.predict(test_rows, deleted=block == b), kept, fit.values[block != b].mean(0)))
    diagnostics |= {"penalty": fit.penalty, "rank": fit.singular.numel()}
    return _scored(truth, test_values, test_block, outputs, diagnostics)


def _logistic_split(
    rows: Tensor,
    truth: Targets,
    test_rows: Tensor,
    test_values: Tensor,
    block: Tensor,
    test_block: Tensor,
    diagnostics: dict[str, float | int | bool | str],
) -> Score:
    fit = fit_logistic(rows, truth.values, truth.n_outputs, test_rows)
    everything = torch.ones_like(test_block, dtype=torch.bool)
    outputs: list[tuple[Tensor, Tensor, Tensor | None]] = [(fit.test_scores, everything, None)]
    for b in range(block_count(block)):
        kept, left = test_block != b, block != b
        if not bool(kept.any()) or int(torch.unique(truth.values[left]).numel()) < 2:
            outputs = outputs[:1]
            break
        again = fit_logistic(rows[left], truth.values[left], truth.n_outputs, test_rows, start=fit)
        outputs.append((again.test_scores, kept, None))
    diagnostics |= {"rank": fit.rank, "converged": fit.converged, "n_iter": fit.n_iter}
    return _scored(truth, test_values, test_block, outputs, diagnostics)


def _scored(
    truth: Targets,
    values: Tensor,
    block: Tensor,
    outputs: list[tuple[Tensor, Tensor, Tensor | None]],
    diagnostics: dict[str, float | int | bool | str],
) -> Score:
    """Measure each (scores `[N, T]`, rows that count `[N]`, baseline), the first of which is the value itself."""
    measured, credits_ = [], []
    variance = values.var(0, unbiased=False) if truth.task == "regression" else torch.ones(1)
    for scores, kept, mean in outputs:
        predictions = scores.argmax(1) if truth.task == "classification" else scores
        baseline = None if mean is None or truth.task != "regression" else mean.expand(int(kept.sum()), -1)
        measured.append(quality(truth.task, predictions[kept], values[kept], baseline=baseline))
        if truth.task != "multilabel":
            row = row_credits(truth.task, predictions, values, variance)
            credits_.append(row.masked_fill(~kept, float("nan")).cpu())
    replicates, factor = measured[1:], 1.0
    if truth.task != "multilabel" and replicates:
        replicates, factor = without_interactions(replicates, credits_[0], credits_[1:], block.cpu())
    return jackknife_score(measured[0], replicates, {**diagnostics, "jackknife_factor": factor})


def _prior(truth: Targets, kept: Tensor) -> Tensor | float:
    """What leaving image i out takes from the mean of its own class: put back, or the intercept votes against i."""
    if truth.task != "classification":
        return 0.0
    values = _regressands(truth)
    mean, n = values[kept].mean(0), int(kept.sum())
    return values.mean(0) - (mean * n - values) / (n - 1)


def _regressands(truth: Targets) -> Tensor:
    if truth.task != "classification":
        return truth.values
    return torch.nn.functional.one_hot(truth.values, truth.n_outputs).to(torch.float64)
