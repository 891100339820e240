"""Outcomes as they belong to what the project holds now: to datasets by fingerprint, to models by weights."""

from sqlalchemy.orm import Session

from service.datasets import repository as datasets
from service.models import repository as models
from service.outcomes import service as outcomes
from service.outcomes.schemas import OutcomeView

_SHOWN = 12


def tied_outcomes(session: Session, project_id: str, /) -> list[OutcomeView]:
    """Oldest first, of every dataset, model and recipe the one that holds.

    A dataset that was removed and brought again, or is there twice, is one dataset; `dataset_id` is then its newest.
    One that was not sealed yet when its outcome came has its fingerprint. An outcome of other weights than a model has
    now is another model's.
    """
    found = list(outcomes.every(session, project_id))
    prints = datasets.fingerprints(session, project_id)
    newest = {fingerprint: ident for ident, fingerprint in prints.items()}
    weighed = sorted({o.model for o in found if o.weights_sha256 is not None})
    now = {name: row.weights_sha256 for name, row in models.by_names(session, project_id, weighed).items()}
    held: dict[tuple[str, str, str], OutcomeView] = {}
    for o in found:
        fingerprint = o.fingerprint or prints.get(o.dataset_id or "")
        ident = o.dataset_id if fingerprint is None else newest.get(fingerprint)
        model, current = o.model, now.get(o.model)
        if current is not None and o.weights_sha256 not in (None, current):
            model = f"{o.model} ({(o.weights_sha256 or '')[:_SHOWN]})"
        key = (fingerprint or o.dataset, model, o.recipe)
        held.pop(key, None)
        held[key] = o.model_copy(update={"fingerprint": fingerprint, "dataset_id": ident, "model": model})
    return list(held.values())
