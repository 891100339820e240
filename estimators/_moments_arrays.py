"""Class moments as arrays, read with care: what comes from a file may be anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from estimators.errors import InvalidInput

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = Mapping[str, NDArray[np.generic]]

_ROUNDING = 1e-9
_SUMS = {"counts", "shift", "sums", "squares", "cubic", "quartic", "labels"}


def read(arrays: Arrays, /) -> dict[str, Any]:
    """The fields of `ClassMoments` whose arrays these are.

    Raises:
        InvalidInput: An array is missing, or its shape, dtype or values are not those of moments.
    """
    if _SUMS - set(arrays) or ("second" in arrays) == ("rows" in arrays):
        raise InvalidInput(f"not the arrays of class moments: {sorted(arrays)}")
    labels = _integers(arrays, "labels", (-1,))
    classes = len(labels)
    if not classes or bool((labels[1:] <= labels[:-1]).any()):
        raise _wrong("labels", "must be ascending class ids, each once")
    counts = _integers(arrays, "counts", (classes,))
    if bool((counts < 1).any()):
        raise _wrong("counts", "must be at least 1 a class")
    shift = _floats(arrays, "shift", (-1,))
    dim, n = shift.shape[0], int(counts.sum())
    if not dim:
        raise _wrong("shift", "has no dimensions")
    squares = _floats(arrays, "squares", (classes, dim))
    quartic = float(_floats(arrays, "quartic", ()))
    if bool((squares < 0).any()) or quartic < 0:
        raise _wrong("squares" if quartic >= 0 else "quartic", "must not be negative")
    second = rows = row_labels = None
    if "second" in arrays:
        second = _scatter(arrays, dim)
    else:
        rows = _floats(arrays, "rows", (n, dim), keep=True)
        row_labels = _integers(arrays, "row_labels", (n,)) if "row_labels" in arrays else None
        if row_labels is not None and (
            bool((row_labels < 0).any()) or not torch.equal(torch.bincount(row_labels, minlength=classes), counts)
        ):
            raise _wrong("row_labels", "must be class indices, as often as counts say")
    return {
        "labels": tuple(labels.tolist()),
        "counts": counts,
        "shift": shift,
        "sums": _floats(arrays, "sums", (classes, dim)),
        "squares": squares,
        "cubic": _floats(arrays, "cubic", (dim,)),
        "quartic": quartic,
        "second": second,
        "rows": rows,
        "row_labels": row_labels,
    }


def _wrong(name: str, what: str) -> InvalidInput:
    return InvalidInput(f"not class moments: {name} {what}")


def _array(arrays: Arrays, name: str, shape: tuple[int, ...], kinds: str) -> NDArray[np.generic]:
    array = np.asarray(arrays.get(name))
    if array.dtype.kind not in kinds:
        raise _wrong(name, f"has dtype {array.dtype}")
    if array.ndim != len(shape) or any(want not in (-1, got) for want, got in zip(shape, array.shape, strict=True)):
        wanted = ", ".join("n" if want == -1 else str(want) for want in shape)
        raise _wrong(name, f"must have shape [{wanted}], got {list(array.shape)}")
    return array


def _integers(arrays: Arrays, name: str, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(_array(arrays, name, shape, "iu").astype(np.int64))


def _scatter(arrays: Arrays, dim: int) -> Tensor:
    """Looked at through two products with one vector, which any number that is not finite reaches."""
    matrix = torch.from_numpy(_array(arrays, "second", (dim, dim), "f").astype(np.float64))
    probe = torch.linspace(1.0, 2.0, dim, dtype=torch.float64)
    across, along = matrix @ probe, matrix.T @ probe
    if not bool(across.isfinite().all()):
        raise _wrong("second", "holds NaN or infinity")
    if float((across - along).abs().max()) > _ROUNDING * float(across.abs().max()):
        raise _wrong("second", "must be symmetric")
    if bool((matrix.diagonal() < 0).any()):
        raise _wrong("second", "must not be negative on its diagonal")
    return matrix


def _floats(arrays: Arrays, name: str, shape: tuple[int, ...], *, keep: bool = False) -> Tensor:
    """Float64, or with `keep` float32 that is that."""
    array = _array(arrays, name, shape, "f")
    single = keep and array.dtype == np.dtype(np.float32).newbyteorder(array.dtype.byteorder)
    tensor = torch.from_numpy(array.astype(np.float32 if single else np.float64))
    if not bool(tensor.isfinite().all()):
        raise _wrong(name, "holds NaN or infinity")
    return tensor
