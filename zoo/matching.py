"""Puts a table of tensors into a model, completely or not at all."""

from collections.abc import Mapping, Sequence

import torch

from zoo.catalog import MatchRule
from zoo.errors import WeightsMismatch

_ROLES = frozenset({"weight", "bias", "running_mean", "running_var"})
_COUNTER = "num_batches_tracked"


def apply(
    model: torch.nn.Module, state_dict: Mapping[str, torch.Tensor], /, *, match: MatchRule, architecture: str
) -> None:
    """Fills every parameter and buffer of the model.

    By name, both sides must hold the same keys. By order, both sides are walked in definition order and each pair must
    have the same shape and, where the names say it, the same role: a normalisation's four vectors have one shape, so
    shape alone would let weight and mean change places. Batch counters are ignored on both sides: they are
    training state, and exporters of other frameworks leave them out.

    Raises:
        WeightsMismatch: naming the first keys that are missing, unexpected or of another shape.
    """
    wanted = {key: value for key, value in model.state_dict().items() if not key.endswith(_COUNTER)}
    given = {key: value for key, value in state_dict.items() if not key.endswith(_COUNTER)}
    match match:
        case "name":
            pairs = _by_name(wanted, given, architecture)
        case "order":
            pairs = _by_order(wanted, given, architecture)
    shapes = [
        f"{name} {tuple(given[source].shape)} for {tuple(wanted[name].shape)}"
        for name, source in pairs.items()
        if given[source].shape != wanted[name].shape
    ]
    if shapes:
        raise WeightsMismatch(architecture, shapes=shapes)
    variances = [pairs[name] for name in pairs if name.endswith("running_var") and bool((given[pairs[name]] < 0).any())]
    if variances:
        raise WeightsMismatch(architecture, reason=f"negative variance in {variances[0]}: tensors have changed places")
    # strict=False passes over the batch counters alone: everything else is proved present above.
    model.load_state_dict({name: given[source] for name, source in pairs.items()}, strict=False)


def without_head(state_dict: Mapping[str, torch.Tensor], heads: Sequence[str], /) -> dict[str, torch.Tensor]:
    prefixes = tuple(f"{head}." for head in heads)
    return {key: value for key, value in state_dict.items() if not (prefixes and key.startswith(prefixes))}


def head_classes(state_dict: Mapping[str, torch.Tensor], heads: Sequence[str], /) -> int:
    """Rows of the classifier in the table; 0 where there is none."""
    for head in heads:
        for suffix in ("weight", "fc.weight", "bias"):
            if f"{head}.{suffix}" in state_dict:
                return int(state_dict[f"{head}.{suffix}"].shape[0])
    return 0


def _by_name(
    wanted: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor], architecture: str, /
) -> dict[str, str]:
    missing = [key for key in wanted if key not in given]
    unexpected = [key for key in given if key not in wanted]
    if missing or unexpected:
        raise WeightsMismatch(architecture, missing=missing, unexpected=unexpected)
    return {key: key for key in wanted}


def _by_order(
    wanted: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor], architecture: str, /
) -> dict[str, str]:
    names, sources = list(wanted), list(given)
    for name, source in zip(names, sources, strict=False):
        role, found = name.rpartition(".")[2], source.rpartition(".")[2]
        if wanted[name].shape != given[source].shape:
            break
        if role != found and role in _ROLES and found in _ROLES:
            raise WeightsMismatch(architecture, reason=f"in definition order, {source} would become {name}")
    else:
        if len(names) != len(sources):
            raise WeightsMismatch(architecture, missing=names[len(sources) :], unexpected=sources[len(names) :])
        return dict(zip(names, sources, strict=True))
    raise WeightsMismatch(
        architecture,
        shapes=[f"{source} {tuple(given[source].shape)} for {name} {tuple(wanted[name].shape)}"],
        reason=f"{len(sources)} tensors in definition order for {len(names)}",
    )
