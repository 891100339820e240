"""Several estimators on one (model, dataset) pair, at little more than the cost of the dearest."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import cast

from estimators.case import Case
from estimators.catalog import SPECS, EstimatorSpec, Need, Task
from estimators.errors import Degenerate, EstimatorError, InvalidInput
from estimators.evidence import Evidence
from estimators.frechet import frechet_value
from estimators.gbc import gbc_value
from estimators.h_score import h_score_value
from estimators.lda import lda_value
from estimators.logme import logme_value
from estimators.ped_gbc import ped_gbc_value
from estimators.ped_lda import ped_lda_value
from estimators.ped_logme import ped_logme_value
from estimators.score import Score
from estimators.sfda import sfda_value
from estimators.shared import NUMERICAL, Collected, Estimate, Options, attempt, out_of_range
from estimators.transrate import transrate_value

SHARED: Mapping[str, Estimate] = {
    "logme": logme_value,
    "h_score": h_score_value,
    "gbc": gbc_value,
    "ped_logme": ped_logme_value,
    "ped_gbc": ped_gbc_value,
    "frechet": frechet_value,
    "lda": lda_value,
    "ped_lda": ped_lda_value,
    "sfda": sfda_value,
    "transrate": transrate_value,
}
"""Estimators that are computed together on views of the class moments, factored once for all of them."""

_SOURCES: Mapping[Need, tuple[str, str]] = {
    Need.MOMENTS: ("class moments", "accumulate them from the model's features of the dataset"),
    Need.FEATURES: ("features", "embed the dataset with the model"),
    Need.SOURCE_PROBS: ("source probabilities", "use weights that keep their classifier, and keep its outputs"),
    Need.BACKGROUND: ("background", "embed the reference set with the model once, and keep its moments"),
    Need.REFERENCE_FEATURES: ("reference features", "embed the reference set with the model once"),
    Need.TEXT_PROTOTYPES: ("text prototypes", "use a model with a text encoder, and name the classes"),
}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What became of one estimator: a score, or why there is none.

    Attributes:
        score: The score, where there is one.
        degenerate: Why the value is not defined on this input, or the input not valid for it.
        missing: Evidence that it needs and that was not there, with what to do about it.
        seconds: Time spent on this estimator alone; what several share is booked to the first that needs it.
    """

    score: Score | None
    degenerate: str | None
    missing: str | None
    seconds: float


def evaluate(
    evidence: Evidence,
    names: Iterable[str],
    /,
    *,
    standard_errors: bool = True,
    params: Mapping[str, Mapping[str, object]] | None = None,
) -> dict[str, Evaluation]:
    """Evaluate estimators by name; one that fails never loses its neighbours.

    Args:
        evidence: What is known of the pair.
        names: Names in `estimators.catalog.SPECS`.
        standard_errors: Whether to compute delete-one-block replicates, from which the errors come.
        params: Options by estimator name; an option that the estimator's spec does not list is an error.

    Returns:
        One Evaluation a name, in the order given.

    Raises:
        InvalidInput: A name or an option that no estimator has. What is wrong with the evidence is reported by name.
    """
    wanted = list(dict.fromkeys(names))
    options = {name: dict((params or {}).get(name, {})) for name in wanted}
    _check_request(wanted, options, params or {})
    results: dict[str, Evaluation] = {}
    shared: list[str] = []
    for name in wanted:
        spec = SPECS[name]
        lacking = _lacking(spec, evidence)
        if evidence.task not in spec.tasks:
            results[name] = Evaluation(None, _wrong_task(spec, evidence.task), None, 0.0)
        elif lacking:
            results[name] = Evaluation(None, None, lacking, 0.0)
        elif name in SHARED and evidence.task is Task.CLASSIFICATION and options[name].get("variant") != "published":
            shared.append(name)
        else:
            results[name] = _evaluate_alone(spec, evidence, options[name], standard_errors)
    results.update(_evaluate_shared(shared, evidence, options, standard_errors))
    return {name: results[name] for name in wanted}


def _check_request(
    wanted: list[str], options: Mapping[str, Mapping[str, object]], params: Mapping[str, Mapping[str, object]]
) -> None:
    unknown = [name for name in (*wanted, *params) if name not in SPECS]
    if unknown:
        raise InvalidInput(f"unknown estimator {unknown[0]!r}; known: {', '.join(sorted(SPECS))}")
    for name, given in options.items():
        stray = sorted(set(given) - SPECS[name].params)
        if stray:
            known = ", ".join(sorted(SPECS[name].params)) or "none"
            raise InvalidInput(f"{name} has no option {stray[0]!r}; it has: {known}")


def _wrong_task(spec: EstimatorSpec, task: Task) -> str:
    return f"{spec.name} is defined for {', '.join(sorted(spec.tasks))}, not for {task}"


def _lacking(spec: EstimatorSpec, evidence: Evidence) -> str | None:
    """What the estimator needs and the evidence does not have, in words; None where nothing lacks."""
    there = {
        Need.MOMENTS: evidence.moments is not None or evidence.features is not None,
        Need.FEATURES: evidence.features is not None
        or (spec.name in SHARED and evidence.moments is not None and evidence.moments.total.rows is not None),
        Need.SOURCE_PROBS: evidence.source_probs is not None,
        Need.BACKGROUND: evidence.background_statistics() is not None
        and ("reference_moments" not in spec.arguments or evidence.reference_moments is not None),
        Need.REFERENCE_FEATURES: evidence.reference_features is not None,
        Need.TEXT_PROTOTYPES: evidence.text_prototypes is not None,
    }
    lacking = [need for need in Need if need in spec.needs and not there[need]]
    return "; ".join(f"{_SOURCES[need][0]}: {_SOURCES[need][1]}" for need in lacking) or None


def _evaluate_alone(
    spec: EstimatorSpec, evidence: Evidence, options: Mapping[str, object], standard_errors: bool
) -> Evaluation:
    """Call an estimator's entry point with the fields of the evidence that its spec names."""
    start = time.perf_counter()
    module, _, function = spec.entrypoint.partition(":")
    entry = cast("Callable[..., Score]", getattr(importlib.import_module(module), function))
    keywords = dict(options)
    if Need.BACKGROUND in spec.needs and "reference_moments" not in spec.arguments:
        keywords["background"] = evidence.background_statistics()
    if spec.takes_blocks and standard_errors:
        keywords["blocks"] = evidence.block_ids()
    if spec.takes_label_free:
        keywords["label_free"] = evidence.label_free
    try:
        score = entry(*(getattr(evidence, name) for name in spec.arguments), **keywords)
    except EstimatorError as error:
        return Evaluation(None, str(error), None, time.perf_counter() - start)
    except NUMERICAL as error:
        return Evaluation(None, str(out_of_range(error)), None, time.perf_counter() - start)
    return Evaluation(score, None, None, time.perf_counter() - start)


def _evaluate_shared(
    names: list[str], evidence: Evidence, options: Mapping[str, Mapping[str, object]], standard_errors: bool
) -> dict[str, Evaluation]:
    """Evaluate block by block, so that each block's factorisation serves every estimator and is then let go."""
    if not names:
        return {}
    seconds = dict.fromkeys(names, 0.0)
    failed: dict[str, str] = {}
    ended: set[str] = set()
    collected = {name: Collected() for name in names}
    start = time.perf_counter()
    try:
        case = _case(evidence, standard_errors)
    except EstimatorError as error:
        return {name: Evaluation(None, str(error), None, 0.0) for name in names}
    seconds[names[0]] += time.perf_counter() - start
    settings = {name: _options(evidence, options[name]) for name in names}
    for block in (None, *(range(case.n_blocks) if case.n_blocks > 1 else ())):
        view = case.total if block is None else case.without(block)
        for name in names:
            if name in ended:
                continue
            start = time.perf_counter()
            try:
                collected[name].add(view, attempt(SHARED[name], view, settings[name]))
            except EstimatorError as error:
                ended.add(name)
                if block is None:
                    failed[name] = str(error)
                else:
                    collected[name].give_up(block, error)
            seconds[name] += time.perf_counter() - start
    results = {}
    for name in names:
        try:
            if name in failed:
                raise Degenerate(failed[name])
            results[name] = Evaluation(collected[name].score(), None, None, seconds[name])
        except EstimatorError as error:
            results[name] = Evaluation(None, str(error), None, seconds[name])
    return results


def _case(evidence: Evidence, standard_errors: bool) -> Case:
    moments = evidence.block_moments(one=not standard_errors)
    if moments is None:
        raise InvalidInput("neither moments nor features to build them from")
    blocks = evidence.block_ids()
    if not standard_errors:
        return Case(moments.total, features=evidence.features, labels=evidence.labels, blocks=blocks)
    return Case(
        moments,
        features=evidence.features,
        labels=evidence.labels,
        blocks=blocks,
        label_free=evidence.label_free if evidence.moments is None else None,
    )


def _options(evidence: Evidence, given: Mapping[str, object]) -> Options:
    background, reference = evidence.background_statistics(), evidence.reference_moments
    variant, nsigma = given.get("variant", ""), given.get("nsigma", 0.6)
    if not isinstance(variant, str) or not isinstance(nsigma, int | float):
        raise InvalidInput("variant must be a name and nsigma a number")
    return Options(variant=variant, nsigma=float(nsigma), background=background, reference=reference)
