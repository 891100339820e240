"""The kNN probe."""

from dataclasses import dataclass
from typing import Literal, assert_never

import faiss
import numpy as np
import torch
from torch import Tensor

from estimators._rows import (
    Targets,
    aligned_ids,
    class_counts,
    feature_rows,
    one_per_row,
    row_digests,
    slices,
    targets,
)
from estimators._rows_jackknife import balanced_blocks, jackknife_score
from estimators._rows_quality import quality
from estimators.errors import Degenerate, InvalidInput
from estimators.score import Score

Metric = Literal["cosine", "l2"]

_TIE = 1e-9  # similarities closer than this are equal: float64 rounding is about 1e-13 on this scale
_FLOAT32_ERROR = 1e-5  # bound on FAISS's float32 similarities, which lie on a scale of one
_CHUNK_BYTES = 64 * 2**20


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
) -> Score:
    r"""How well the k nearest neighbours among the other images predict an image's label.

    $\frac1N \sum_i \mathbf 1\bigl[\,y_i = \arg\max_c \sum_{j \in \mathcal N_k(i)} \mathbf 1[y_j = c]\,\bigr]$, where
    $\mathcal N_k(i)$ are the k most similar rows among $j \ne i$ (leave-one-out), or among the training rows when test
    rows are given.

    Args:
        features: `[N, D]`, floating point, finite.
        labels: Integers `[N]` (classification), 0/1 integers or booleans `[N, L]` (multi-label), or floats `[N]` or
            `[N, T]` (regression). The dtype and shape decide the task.
        k: Number of neighbours, at least 1 and less than N.
        metric: `cosine` (a zero row is similar to nothing: 0) or `l2`.
        blocks: Block ids `[N]` for the jackknife; None spreads each class evenly over ten blocks.
        test_features: `[M, D]`; with them the probe is fitted on `features` and measured here.
        test_labels: Labels of `test_features`, of the same task.

    Returns:
        Classification: accuracy in [0, 1]. Multi-label: mean average precision of the neighbours' share, in (0, 1],
        over the labels that are both present and absent. Regression: R² of the neighbours' mean against the mean of
        the other rows, in (-inf, 1], averaged over targets. Higher is better. `stderr` is the delete-one-block
        jackknife; with test rows, a block of both splits is deleted at once. Diagnostics: `task`, `k`, `metric`,
        `duplicates` (rows that repeat an earlier row exactly), `duplicates_across_split`, `zero_rows`,
        `singleton_classes` (their rows cannot be right), `exact_rows` (votes recounted against every row).

    Raises:
        InvalidInput: Wrong shapes or dtypes, NaN or infinity, k < 1, an unknown metric, one test argument alone.
        Degenerate: One class or constant targets, identical rows, k >= N.

    Reference:
        T. Cover, P. Hart. Nearest neighbor pattern classification. IEEE Transactions on Information Theory 13(1), 1967.
        J. Johnson, M. Douze, H. Jégou. Billion-scale similarity search with GPUs. IEEE Transactions on Big Data, 2019.
        arXiv:1702.08734.

    Notes:
        A row never votes for itself, and is recognised by its position, not by being most similar: with duplicated
        rows the most similar row is often another one. Rows as similar as the k-th share the places that are left, so
        that the order of the rows does not matter. Equal votes go to the larger summed similarity, then to the lowest
        label. FAISS (exact, flat, on the CPU whatever the device of the features) proposes candidates in float32; the
        similarities that decide are recomputed in float64, and a row for which float32 could have hidden a neighbour
        is compared with every row.
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
        return _leave_one_out(rows, truth, k, metric, blocks)
    test_rows = feature_rows(test_features, name="test_features").cpu()
    return _split(rows, truth, labels.cpu(), test_rows, test_labels.cpu(), k, metric, blocks)


def _leave_one_out(rows: Tensor, truth: Targets, k: int, metric: Metric, blocks: Tensor | None) -> Score:
    n = rows.shape[0]
    digests = row_digests(rows)
    duplicates = n - len(set(digests))
    if duplicates == n - 1:
        raise Degenerate("all rows are identical: no neighbour is nearer than another")
    if k >= n:
        raise Degenerate(f"{k} neighbours need more than {k} rows, there are {n}")
    search = _Search.build(rows, rows, truth, metric, k=k, own_rows=True)
    predictions, exact = search.predict(None, torch.arange(n))
    value = quality(truth.task, predictions, truth.values)
    ids = truth.values if truth.task == "classification" else None
    block = balanced_blocks(ids, n) if blocks is None else one_per_row(blocks.cpu(), n, name="blocks")
    replicates = []
    for b in range(int(block.max()) + 1):
        kept = (block != b).nonzero().squeeze(1)
        if kept.numel() <= k:
            replicates.append(float("nan"))
            continue
        kept_predictions, more = search.predict(block == b, kept)
        exact += more
        replicates.append(quality(truth.task, kept_predictions, truth.values[kept]))
    return jackknife_score(
        value,
        torch.tensor(replicates, dtype=torch.float64),
        {
            "task": truth.task,
            "k": k,
            "metric": metric,
            "duplicates": duplicates,
            "zero_rows": search.zero_rows,
            "singleton_classes": _singletons(truth),
            "exact_rows": exact,
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
    digests, test_digests = row_digests(rows), row_digests(test_rows.to(rows.dtype))
    if len(set(digests)) == 1:
        raise Degenerate("all rows are identical: no neighbour is nearer than another")
    if k > n:
        raise Degenerate(f"{k} neighbours need at least {k} rows, there are {n}")
    search = _Search.build(rows, test_rows, truth, metric, k=k, own_rows=False)
    everything = torch.arange(m)
    predictions, exact = search.predict(None, everything)
    baseline = truth.values.mean(0).expand(m, -1) if truth.task == "regression" else None
    value = quality(truth.task, predictions, test_values, baseline=baseline)
    classification = truth.task == "classification"
    block = (
        balanced_blocks(truth.values if classification else None, n)
        if blocks is None
        else one_per_row(blocks.cpu(), n, name="blocks")
    )
    n_blocks = int(block.max()) + 1
    test_block = balanced_blocks(test_values if classification else None, m, n_blocks=n_blocks)
    replicates = []
    for b in range(n_blocks):
        kept = (test_block != b).nonzero().squeeze(1)
        if kept.numel() == 0 or int((block != b).sum()) < k:
            replicates.append(float("nan"))
            continue
        kept_predictions, more = search.predict(block == b, kept)
        exact += more
        mean = truth.values[block != b].mean(0).expand(kept.numel(), -1) if truth.task == "regression" else None
        replicates.append(quality(truth.task, kept_predictions, test_values[kept], baseline=mean))
    known = set(digests)
    return jackknife_score(
        value,
        torch.tensor(replicates, dtype=torch.float64),
        {
            "task": truth.task,
            "k": k,
            "metric": metric,
            "duplicates": n - len(known),
            "duplicates_across_split": sum(digest in known for digest in test_digests),
            "zero_rows": search.zero_rows,
            "exact_rows": exact,
        },
    )


def paired_targets(truth: Targets, labels: Tensor, test_labels: Tensor, n: int, m: int, /) -> tuple[Targets, Tensor]:
    """Return the training targets and the test values with class ids that mean the same in both."""
    if truth.task == "classification":
        if test_labels.is_floating_point() or test_labels.ndim != 1:
            raise InvalidInput("test_labels must be integers [M], as labels are")
        train_ids, test_ids = aligned_ids(labels, test_labels, n, m)
        return Targets(truth.task, train_ids, int(max(train_ids.max(), test_ids.max())) + 1), test_ids
    test = targets(test_labels, m, name="test_labels")
    if test.task != truth.task or test.n_outputs != truth.n_outputs:
        raise InvalidInput("test_labels must have the dtype and columns of labels")
    return truth, test.values


def _singletons(truth: Targets) -> int:
    return int((class_counts(truth.values) == 1).sum()) if truth.task == "classification" else 0


@dataclass(frozen=True, slots=True)
class _Search:
    """Candidates of every query, once; votes are taken from them as often as blocks are deleted."""

    rows: Tensor
    queries: Tensor
    truth: Targets
    metric: Metric
    k: int
    own_rows: bool
    scale: float
    ids: Tensor  # [Q, m]
    similarity: Tensor  # [Q, m] float64, -inf for the query itself
    floor: Tensor  # [Q]: no row outside of `ids` is more similar than this
    zero_rows: int

    @classmethod
    def build(
        cls, rows: Tensor, queries: Tensor, truth: Targets, metric: Metric, /, *, k: int, own_rows: bool
    ) -> "_Search":
        n = rows.shape[0]
        zero_rows = int((rows == 0).all(1).sum())
        centre, scale = _centre_and_scale(rows) if metric == "l2" else (None, 1.0)
        database = _searchable(rows, centre, scale)
        asked = database if own_rows else _searchable(queries, centre, scale)
        depth = min(n, 2 * k + 8 + int(own_rows))
        index = faiss.IndexFlatIP(rows.shape[1]) if metric == "cosine" else faiss.IndexFlatL2(rows.shape[1])
        index.add(database)
        ids = torch.from_numpy(index.search(asked, depth)[1])
        similarity = _gathered_similarity(rows, queries, ids, metric, scale)
        # A row left out by FAISS is at most as similar as the last one it kept, up to the error of float32.
        floor = (
            similarity.amin(1) + 2 * _FLOAT32_ERROR
            if depth < n
            else torch.full((queries.shape[0],), -torch.inf, dtype=torch.float64)
        )
        if own_rows:
            similarity[ids == torch.arange(n)[:, None]] = -torch.inf
        return cls(rows, queries, truth, metric, k, own_rows, scale, ids, similarity, floor, zero_rows)

    def predict(self, deleted: Tensor | None, asked: Tensor) -> tuple[Tensor, int]:
        """Predict for the queries `asked` without the rows `deleted`; also return how many needed every row."""
        ids, similarity = self.ids[asked], self.similarity[asked]
        if deleted is not None:
            similarity = similarity.masked_fill(deleted[ids], -torch.inf)
        if ids.shape[1] >= self.k:
            kth = similarity.topk(self.k, dim=1).values[:, -1]
        else:
            kth = torch.full((asked.numel(),), -torch.inf, dtype=torch.float64)
        short = ~(kth - _TIE > self.floor[asked])
        enough = ~short
        predictions = torch.empty(
            (asked.numel(),) if self.truth.task == "classification" else (asked.numel(), self.truth.n_outputs),
            dtype=self.truth.values.dtype,
        )
        step = max(1, _CHUNK_BYTES // (8 * max(self.truth.n_outputs, ids.shape[1])))
        chosen = enough.nonzero().squeeze(1)
        for part in (chosen[some] for some in slices(chosen.numel(), step)):
            predictions[part] = _vote(similarity[part], ids[part], self.truth, self.k)
        step = max(1, _CHUNK_BYTES // (16 * self.rows.shape[0]))
        chosen = short.nonzero().squeeze(1)
        for part in (chosen[some] for some in slices(chosen.numel(), step)):
            everything = self._all_similarities(asked[part])
            if deleted is not None:
                everything[:, deleted] = -torch.inf
            all_ids = torch.arange(self.rows.shape[0]).expand(part.numel(), -1)
            predictions[part] = _vote(everything, all_ids, self.truth, self.k)
        return predictions, int(short.sum())

    def _all_similarities(self, asked: Tensor) -> Tensor:
        queries, rows = self.queries[asked].double(), self.rows.double()
        match self.metric:
            case "cosine":
                similarity = _unit(queries) @ _unit(rows).T
            case "l2":
                similarity = -torch.cdist(queries, rows, compute_mode="donot_use_mm_for_euclid_dist").square()
                similarity /= self.scale**2
            case _:
                assert_never(self.metric)
        if self.own_rows:
            similarity[torch.arange(asked.numel()), asked] = -torch.inf
        return similarity


def _vote(similarity: Tensor, ids: Tensor, truth: Targets, k: int) -> Tensor:
    kth = similarity.topk(k, dim=1).values[:, -1:]
    above = similarity > kth + _TIE
    level = (similarity >= kth - _TIE) & ~above
    share = (k - above.sum(1, keepdim=True)) / level.sum(1, keepdim=True)
    weight = above.double() + level.double() * share
    if truth.task != "classification":
        return torch.einsum("qm,qmt->qt", weight / k, truth.values[ids])
    votes = torch.zeros(ids.shape[0], truth.n_outputs, dtype=torch.float64)
    summed = torch.zeros_like(votes)
    classes = truth.values[ids]
    votes.scatter_add_(1, classes, weight)
    summed.scatter_add_(1, classes, weight * similarity.masked_fill(weight == 0, 0.0))
    first = votes >= votes.amax(1, keepdim=True) - _TIE
    summed.masked_fill_(~first, -torch.inf)
    return (summed >= summed.amax(1, keepdim=True) - _TIE).to(torch.uint8).argmax(1)


def _unit(rows: Tensor) -> Tensor:
    return rows / _norms(rows)


def _norms(rows: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, keepdim=True, dtype=torch.float64)
    return norms.masked_fill(norms == 0, 1.0)


def _centre_and_scale(rows: Tensor) -> tuple[Tensor, float]:
    # Float32 loses the distance of two points that are close together and far from zero: hence about the mean.
    centre: Tensor = rows.mean(0, dtype=torch.float64)
    spread = 0.0
    for part in slices(rows.shape[0], 4096):
        spread += float((rows[part] - centre).square().sum())
    return centre, (spread / rows.shape[0]) ** 0.5


def _searchable(rows: Tensor, centre: Tensor | None, scale: float) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    out = torch.empty(rows.shape, dtype=torch.float32)
    for part in slices(rows.shape[0], 4096):
        out[part] = (_unit(rows[part].double()) if centre is None else (rows[part] - centre) / scale).float()
    return out.numpy()


def _gathered_similarity(rows: Tensor, queries: Tensor, ids: Tensor, metric: Metric, scale: float) -> Tensor:
    depth, width = ids.shape[1], rows.shape[1]
    step = max(1, _CHUNK_BYTES // (8 * depth * width))
    norms, query_norms = (_norms(rows), _norms(queries)) if metric == "cosine" else (None, None)
    parts = []
    for start in range(0, queries.shape[0], step):
        some, chosen = queries[start : start + step].double(), ids[start : start + step]
        near = rows[chosen].double()
        if norms is not None and query_norms is not None:
            dots = torch.bmm(near, some[:, :, None]).squeeze(2)
            parts.append(dots / (norms[chosen].squeeze(2) * query_norms[start : start + step]))
        else:
            parts.append(-(near - some[:, None, :]).square().sum(2) / scale**2)
    return torch.cat(parts)
