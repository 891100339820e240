"""A refusal as the dataset's problem."""

from service.core.errors import InvalidRequest
from service.datasets.errors import DatasetRefused


def refusal_problem(refusal: DatasetRefused | InvalidRequest, /) -> dict[str, str]:
    """Without an HTTP status: the API adds it."""
    match refusal:
        case DatasetRefused():
            slug = refusal.slug
        case InvalidRequest():
            slug = "invalid-request"
    return {
        "type": f"/problems/{slug}",
        "title": f"The dataset was refused: {slug.replace('-', ' ')}",
        "detail": str(refusal),
    }
