"""Checks on rows and labels that the feature-based estimators share."""

import hashlib
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from estimators.errors import Degenerate, InvalidInput

_LARGEST = 1e70  # the square of its square is a float64 still
TaskName = Literal["classification", "multilabel", "regression"]


@dataclass(frozen=True, slots=True)
class Targets:
    """Labels after the checks.

    Attributes:
        task: Which task the dtype and shape of the labels stand for.
        values: Class ids `[N]` int64 in 0..C-1, indicators `[N, L]` float64, or the target `[N, 1]` float64.
        n_outputs: C, L or 1.
    """

    task: TaskName
    values: Tensor
    n_outputs: int


def feature_rows(features: Tensor, /, *, name: str = "features") -> Tensor:
    """Return `features` after checking that they are finite floating-point rows `[N, D]` with N, D >= 1."""
    if not isinstance(features, Tensor):
        raise InvalidInput(f"{name} must be a torch tensor, got {type(features).__name__}")
    if features.ndim != 2:
        raise InvalidInput(f"{name} must have shape [N, D], got {list(features.shape)}")
    if not features.is_floating_point():
        raise InvalidInput(f"{name} must be floating point, got {features.dtype}")
    if min(features.shape) == 0:
        raise Degenerate(f"{name} of shape {list(features.shape)} hold no numbers")
    if not bool(torch.isfinite(features).all()):
        raise InvalidInput(f"{name} hold NaN or infinity")
    if features.dtype == torch.float64:
        largest = float(features.detach().abs().max())
        if largest > _LARGEST:
            raise InvalidInput(f"{name} are too large to square (up to {largest:.0e})")
        if 0 < largest < 1 / _LARGEST:
            raise Degenerate(f"{name} are too small to square (up to {largest:.0e}): scale them up")
    return features.detach()


def class_ids(labels: Tensor, n: int, /, *, name: str = "labels") -> Tensor:
    """Re-index integer class labels `[N]` to 0..C-1 in ascending order of the label, whatever the gaps.

    Raises:
        InvalidInput: The labels are not N integers.
        Degenerate: There are fewer than two classes.
    """
    values = _label_tensor(labels, n, name)
    if values.ndim != 1 or values.is_floating_point():
        raise InvalidInput(
            f"{name} must be integers of shape [N] (classification), got {values.dtype} {list(values.shape)}"
        )
    ids: Tensor = torch.unique(values.to(torch.int64), return_inverse=True)[1]
    if int(ids.max()) == 0:
        raise Degenerate("one class: there is nothing to tell apart")
    return ids


def targets(labels: Tensor, n: int, /, *, name: str = "labels") -> Targets:
    """Read the task from the labels: integers `[N]`, indicators `[N, L]`, or floats `[N]`.

    Raises:
        InvalidInput: Another shape or dtype, NaN, or indicators other than 0 and 1.
        Degenerate: One class, no label with both signs, or a constant target.
    """
    values = _label_tensor(labels, n, name)
    if values.ndim == 2:
        if not bool(((values == 0) | (values == 1)).all()):
            raise InvalidInput(f"multi-label {name} must hold 0 and 1 alone")
        indicators = values.to(torch.float64)
        if not bool((indicators != indicators[:1]).any()):
            raise Degenerate("no label is both present and absent")
        return Targets("multilabel", indicators, indicators.shape[1])
    if values.is_floating_point():
        if values.ndim != 1:
            raise InvalidInput(f"regression {name} must have shape [N], got {list(values.shape)}")
        if not bool(torch.isfinite(values).all()):
            raise InvalidInput(f"{name} hold NaN or infinity")
        column = values.to(torch.float64)[:, None]
        if not bool((column != column[:1]).any()):
            raise Degenerate("the regression target is constant")
        return Targets("regression", column, 1)
    ids = class_ids(values, n, name=name)
    return Targets("classification", ids, int(ids.max()) + 1)


def aligned_ids(labels: Tensor, test_labels: Tensor, n: int, n_test: int, /) -> tuple[Tensor, Tensor]:
    """Re-index the class labels of two splits together, so that one id means one class in both."""
    train = _label_tensor(labels, n, "labels")
    test = _label_tensor(test_labels, n_test, "test_labels")
    joint = class_ids(torch.cat([train, test]), n + n_test)
    return joint[:n], joint[n:]


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


def one_per_row(values: Tensor, n: int, /, *, name: str) -> Tensor:
    """Return ids `[N]` (blocks, say) re-indexed from 0."""
    if not isinstance(values, Tensor) or values.shape != (n,) or values.is_floating_point():
        raise InvalidInput(f"{name} must be {n} integers of shape [N]")
    ids: Tensor = torch.unique(values.detach(), return_inverse=True)[1]
    return ids


def row_digests(rows: Tensor, /) -> list[bytes]:
    """Return a digest of each row's values, whatever their dtype; equal digests mean equal rows."""
    digests = []
    for part in slices(rows.shape[0], 1024):
        array = (rows[part].to("cpu", torch.float64) + 0.0).numpy()  # -0.0 and 0.0 are one value
        digests += [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in array]
    return digests


def slices(n: int, size: int, /) -> list[slice]:
    """Cut 0..n-1 into slices of at most `size` rows."""
    return [slice(start, min(start + size, n)) for start in range(0, n, max(1, size))]


def class_counts(ids: Tensor, /) -> Tensor:
    """Return n_c `[C]`."""
    return torch.bincount(ids)


def _label_tensor(labels: Tensor, n: int, name: str) -> Tensor:
    if not isinstance(labels, Tensor):
        raise InvalidInput(f"{name} must be a torch tensor, got {type(labels).__name__}")
    if labels.is_complex() or labels.ndim == 0 or labels.shape[0] != n:
        raise InvalidInput(f"{name} must have one row for each of the {n} feature rows, got {list(labels.shape)}")
    return labels.detach()
