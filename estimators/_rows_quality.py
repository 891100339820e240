"""How good a probe's predictions are: one number a task, the same for every probe."""

import torch
from torch import Tensor

from estimators._rows import TaskName


def quality(task: TaskName, predictions: Tensor, values: Tensor, /, *, baseline: Tensor | None = None) -> float:
    """Return accuracy, mean average precision or R² of predictions.

    Args:
        task: Decides the number.
        predictions: Class ids `[N]`, label scores `[N, L]` or the predicted target `[N, 1]`.
        values: The truth, as `Targets.values`.
        baseline: Regression alone: the prediction without features, `[N, 1]`; None takes the leave-one-out mean.

    Returns:
        Accuracy in [0, 1]; mean average precision in (0, 1], NaN when no label has both signs; R² in (-inf, 1],
        NaN when the target is constant.
    """
    if task == "classification":
        return float((predictions == values).to(torch.float64).mean())
    if task == "multilabel":
        return _mean_average_precision(predictions, values)
    n = values.shape[0]
    if baseline is None:
        baseline = values + (values.mean(0) - values) * (n / (n - 1)) if n > 1 else values
    residual = ((values - predictions) ** 2).sum(0)
    without = ((values - baseline) ** 2).sum(0)
    return float((1 - residual / without).mean()) if bool((without > 0).all()) else float("nan")


def row_credits(task: TaskName, predictions: Tensor, values: Tensor, variance: Tensor, /) -> Tensor:
    """Return each row's part `[N]` in accuracy or R², whose mean is the value up to O(1/N)."""
    if task == "classification":
        return (predictions == values).to(torch.float64)
    return (1 - (predictions - values) ** 2 / variance).mean(1)


def _mean_average_precision(scores: Tensor, truth: Tensor) -> float:
    n = truth.shape[0]
    positives = truth.sum(0)
    kept = (positives > 0) & (positives < n)
    if not bool(kept.any()):
        return float("nan")
    scores, truth, positives = scores[:, kept], truth[:, kept], positives[kept]
    order = scores.argsort(0, descending=True)
    ranked, hits = scores.gather(0, order), truth.gather(0, order)
    rank = torch.arange(1, n + 1, device=scores.device, dtype=torch.float64)[:, None]
    # Equal scores have no order among them: all of them stand at the end of their run.
    is_end = torch.ones_like(ranked, dtype=torch.bool)
    is_end[:-1] = ranked[:-1] - ranked[1:] > 1e-12
    end = torch.where(is_end, rank, torch.full_like(rank, n + 1.0)).flip(0).cummin(0).values.flip(0)
    precision = hits.cumsum(0).gather(0, end.long() - 1) / end
    return float(((precision * hits).sum(0) / positives).mean())
