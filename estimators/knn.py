"""The kNN probe."""

import torch
from torch import Tensor

from estimators._rows import (
    Targets,
    class_counts,
    feature_rows,
    paired_targets,
    row_digests,
    targets,
)
from estimators._rows_jackknife import block_count, jackknife_blocks, jackknife_score, without_interactions
from estimators._rows_quality import quality, row_credits
from estimators._rows_search import Metric, Neighbourhood, NeighbourSearch
from estimators.blocks import block_ids
from estimators.errors import Degenerate, InvalidInput
from estimators.label_free import LabelFree
from estimators.score import Score


def knn(
    features: Tensor,
    labels: Tensor,
    /,
    *,
    k: int = 5,
    metric: Metric = "cosine",
    blocks: Tensor | None = None,
    test_features: Tensor | None = None,
    test_labels: Tensor | None = None,
    label_free: LabelFree | None = None,
) -> Score:
    r"""How well the k nearest neighbours among the other images predict an image's label.

    $\frac1N \sum_i \mathbf 1\bigl[\,y_i = \arg\max_c \sum_{j \in \mathcal N_k(i)} \mathbf 1[y_j = c]\,\bigr]$, where
    $\mathcal N_k(i)$ are the k most similar rows among $j \ne i$ (leave-one-out), or among the training rows when test
    rows are given.

    Args:
        features: `[N, D]`, floating point, finite.
        labels: Integers `[N]` (classification), indicators 0 and 1 `[N, L]` (multi-label), or floats `[N]`
            (regression). The dtype and shape decide the task.
        k: Number of neighbours, at least 1 and less than N.
        metric: `cosine` (a zero row is similar to nothing: 0) or `l2`.
        blocks: Block number of each row `[N]` (see `estimators.blocks`); gives a standard error and replicates.
        test_features: `[M, D]`; with them the probe is fitted on `features` and measured here.
        test_labels: Labels of `test_features`, of the same task.
        label_free: What was found of these very rows before; their neighbours are then not searched for again.

    Returns:
        Classification: accuracy in [0, 1]. Multi-label: mean average precision of the neighbours' share, in (0, 1],
        over the labels that are both present and absent. Regression: R² of the neighbours' mean against the mean of
        the other rows, in (-inf, 1]. Higher is better. `stderr` is the delete-one-block
        jackknife; with test rows, a block of both splits is deleted at once. Diagnostics: `task`, `k`, `metric`,
        `duplicates` (rows that repeat an earlier row exactly), `duplicates_across_split`, `zero_rows`,
        `singleton_classes` (their rows cannot be right), `exact_rows` (votes that were counted over every row),
        `jackknife_factor`.

    Raises:
        InvalidInput: Wrong shapes or dtypes, NaN or infinity, k < 1, an unknown metric, one test argument alone.
        Degenerate: One class or constant targets, identical rows, k >= N.

    Reference:
        T. Cover, P. Hart. Nearest neighbor pattern classification. IEEE Transactions on Information Theory 13(1), 1967.

    Notes:
        A row never votes for itself, and is recognised by its position, not by being most similar: with duplicated
        rows the most similar row is often another one. Rows as similar as the k-th share the places that are left, so
        that the order of the rows does not matter. Equal votes go to the larger summed similarity, then to the lowest
        label. Float32 products (exhaustive, on the CPU whatever the device of the features) propose candidates; the
        similarities that decide are recomputed in float64, and a row for which float32 could have hidden a neighbour
        is compared with every row.

        The search runs once: without a block, votes are taken again from the candidates that are left. The plain
        jackknife overstates the error of a vote, because it counts twice what two blocks do to each other's votes; most
        of that is measured and taken out (Efron and Stein, The jackknife estimate of variance, Annals of Statistics
        9(3), 1981), by drawing the replicates in by `jackknife_factor`. Multi-label scores keep the plain jackknife.
    """
    if k < 1:
        raise InvalidInput(f"k must be at least 1, got {k}")
    if metric not in ("cosine", "l2"):
        raise InvalidInput(f"metric must be 'cosine' or 'l2', got {metric!r}")
    if (test_features is None) != (test_labels is None):
        raise InvalidInput("test_features and test_labels go together")
    rows = feature_rows(features).cpu()
    truth = targets(labels.cpu() if isinstance(labels, Tensor) else labels, rows.shape[0])
    if test_features is None or test_labels is None:
        return _leave_one_out(rows, truth, k, metric, blocks, label_free)
    test_rows = feature_rows(test_features, name="test_features").cpu()
    return _split(rows, truth, labels.cpu(), test_rows, test_labels.cpu(), k, metric, blocks)


def _leave_one_out(
    rows: Tensor, truth: Targets, k: int, metric: Metric, blocks: Tensor | None, label_free: LabelFree | None
) -> Score:
    n = rows.shape[0]
    if k >= n:
        raise Degenerate(f"{k} neighbours need more than {k} rows, there are {n}")
    spare = _spare(k, blocks)
    known = {} if label_free is None else label_free.neighbours
    near = known.get((metric, k + spare))
    if near is None:
        near = Neighbourhood.find(rows, rows, metric, k=k, own_rows=True, spare=spare)
        known[metric, k + spare] = near
    if near.duplicates == n - 1:
        raise Degenerate("all rows are identical: no neighbour is nearer than another")
    search = NeighbourSearch(rows, rows, truth, metric, k, own_rows=True, near=near)
    predictions, exact = search.predict(None, torch.arange(n))
    value = quality(truth.task, predictions, truth.values)
    block = jackknife_blocks(blocks, n)
    everything = torch.arange(n)
    replicates, factor, more = _replicates(search, predictions, truth.values, block, everything, block, None)
    return jackknife_score(
        value,
        replicates,
        {
            "task": truth.task,
            "k": k,
            "metric": metric,
            "duplicates": near.duplicates,
            "zero_rows": near.zero_rows,
            "singleton_classes": _singletons(truth),
            "exact_rows": exact + more,
            "jackknife_factor": factor,
        },
    )


def _split(
    rows: Tensor,
    truth: Targets,
    labels: Tensor,
    test_rows: Tensor,
    test_labels: Tensor,
    k: int,
    metric: Metric,
    blocks: Tensor | None,
) -> Score:
    n, m = rows.shape[0], test_rows.shape[0]
    if test_rows.shape[1] != rows.shape[1]:
        raise InvalidInput(f"features have {rows.shape[1]} columns, test_features {test_rows.shape[1]}")
    truth, test_values = paired_targets(truth, labels, test_labels, n, m)
    known = set(row_digests(rows))
    if len(known) == 1:
        raise Degenerate("all rows are identical: no neighbour is nearer than another")
    if k > n:
        raise Degenerate(f"{k} neighbours need at least {k} rows, there are {n}")
    near = Neighbourhood.find(rows, test_rows, metric, k=k, own_rows=False, spare=_spare(k, blocks))
    search = NeighbourSearch(rows, test_rows, truth, metric, k, own_rows=False, near=near)
    everything = torch.arange(m)
    predictions, exact = search.predict(None, everything)
    baseline = truth.values.mean(0).expand(m, -1) if truth.task == "regression" else None
    value = quality(truth.task, predictions, test_values, baseline=baseline)
    block = jackknife_blocks(blocks, n)
    n_blocks = int(block.max()) + 1
    test_block = block_ids(test_labels, n_blocks=max(n_blocks, 2))
    replicates, factor, more = _replicates(search, predictions, test_values, block, everything, test_block, baseline)
    return jackknife_score(
        value,
        replicates,
        {
            "task": truth.task,
            "k": k,
            "metric": metric,
            "duplicates": near.duplicates,
            "duplicates_across_split": sum(digest in known for digest in row_digests(test_rows)),
            "zero_rows": near.zero_rows,
            "singleton_classes": _singletons(truth),
            "exact_rows": exact + more,
            "jackknife_factor": factor,
        },
    )


def _replicates(
    search: NeighbourSearch,
    predictions: Tensor,
    values: Tensor,
    block: Tensor,
    everything: Tensor,
    query_block: Tensor,
    baseline: Tensor | None,
) -> tuple[list[float], float, int]:
    """Vote again without each block; also the factor of the correction and how many rows needed every row."""
    truth, exact = search.truth, 0
    variance = values.var(0, unbiased=False) if truth.task == "regression" else torch.ones(1)
    replicates, deleted = [], []
    for b in range(block_count(block)):
        kept = everything[query_block != b]
        left = int((block != b).sum())
        if kept.numel() == 0 or left < search.k + int(search.own_rows):
            return [], 1.0, exact
        kept_predictions, more = search.predict(block == b, kept)
        exact += more
        mean = None
        if baseline is not None:
            mean = truth.values[block != b].mean(0).expand(kept.numel(), -1)
        replicates.append(quality(truth.task, kept_predictions, values[kept], baseline=mean))
        if truth.task != "multilabel":
            row = torch.full((everything.numel(),), float("nan"), dtype=torch.float64)
            row[kept] = row_credits(truth.task, kept_predictions, values[kept], variance)
            deleted.append(row)
    if truth.task == "multilabel":
        return replicates, 1.0, exact
    whole = row_credits(truth.task, predictions, values, variance)
    drawn, factor = without_interactions(replicates, whole, deleted, query_block)
    return drawn, factor, exact


def _spare(k: int, blocks: Tensor | None) -> int:
    """How many candidates to take beyond k: a deleted block takes some, and a few tell that the k-th is certain."""
    return 3 if blocks is None else k + 8


def _singletons(truth: Targets) -> int:
    return int((class_counts(truth.values) == 1).sum()) if truth.task == "classification" else 0
