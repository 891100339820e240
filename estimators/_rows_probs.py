"""Checks on source probabilities and the plug-in conditional that LEEP, NCE and N-LEEP share."""

import torch
from torch import Tensor

from estimators._rows import slices
from estimators.errors import Degenerate, InvalidInput

_ROW_SUM_TOLERANCE = 1e-2  # bfloat16 probabilities over a thousand classes sum to 1 within this


def source_probabilities(source_probs: Tensor, /) -> Tensor:
    """Return probabilities `[N, Cs]` in float64 after checking that they are probabilities.

    Raises:
        InvalidInput: Another shape or dtype, NaN, negative entries, or rows that do not sum to 1 (logits, say).
        Degenerate: There are no rows.
    """
    if not isinstance(source_probs, Tensor):
        raise InvalidInput(f"source_probs must be a torch tensor, got {type(source_probs).__name__}")
    if source_probs.ndim != 2 or not source_probs.is_floating_point():
        raise InvalidInput(
            f"source_probs must be floating point [N, Cs], got {source_probs.dtype} {list(source_probs.shape)}"
        )
    if min(source_probs.shape) == 0:
        raise Degenerate(f"source_probs of shape {list(source_probs.shape)} hold no numbers")
    probs = source_probs.detach().to(torch.float64)
    if not bool(torch.isfinite(probs).all()):
        raise InvalidInput("source_probs hold NaN or infinity")
    if bool((probs < 0).any()) or bool(((probs.sum(1) - 1).abs() > _ROW_SUM_TOLERANCE).any()):
        raise InvalidInput("source_probs must be probabilities: no negative entry, and each row sums to 1 (logits?)")
    return probs


def joint_mass(probs: Tensor, ids: Tensor, n_classes: int, /) -> Tensor:
    """Return the sum of the probabilities of each class's rows, `[C, Cs]`."""
    return torch.zeros(n_classes, probs.shape[1], dtype=probs.dtype, device=probs.device).index_add_(0, ids, probs)


def log_expected(probs: Tensor, ids: Tensor, mass: Tensor, /) -> Tensor:
    """Return log sum_z P(y|z) theta_z of each row `[N]`, where P(y, z) is `mass` up to a factor.

    Source classes without mass have no conditional; no row gives them any probability either, so they drop out.
    """
    total = mass.sum(0)
    conditional = torch.where(total > 0, mass / total.clamp_min(torch.finfo(total.dtype).tiny), 0.0)
    logs = torch.empty(probs.shape[0], dtype=probs.dtype, device=probs.device)
    for some in slices(probs.shape[0], max(1, 2**23 // probs.shape[1])):
        logs[some] = (probs[some] * conditional[ids[some]]).sum(1).log()
    return logs
