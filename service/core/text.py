"""Text that every database can hold: PostgreSQL takes no NUL byte, and neither database takes half a character."""

from typing import Any

from pydantic import BaseModel, model_validator


def is_storable(value: Any, /) -> bool:
    """Whether all text in a JSON value is free of NUL bytes and of halves of surrogate pairs."""
    if isinstance(value, str):
        return "\0" not in value and not any("\ud800" <= c <= "\udfff" for c in value)
    if isinstance(value, dict):
        return all(is_storable(k) and is_storable(v) for k, v in value.items())
    return all(is_storable(item) for item in value) if isinstance(value, (list, tuple)) else True


def glob_to_like(glob: str, /) -> str:
    """For SQL's LIKE with the escape `\\`."""
    escaped = glob.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%").replace("?", "_")


class RequestBody(BaseModel):
    """Base of what clients send."""

    @model_validator(mode="before")
    @classmethod
    def _storable(cls, data: Any) -> Any:
        if not is_storable(data):
            raise ValueError("text must hold no NUL byte and no half of a surrogate pair")
        return data
