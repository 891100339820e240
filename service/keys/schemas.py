"""Keys as they are shown and asked for."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from service.core.text import RequestBody


class Scope(StrEnum):
    """Each reaches as far as those before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def reaches(self, needed: "Scope", /) -> bool:
        order = list(Scope)
        return order.index(self) >= order.index(needed)


class KeyCreate(RequestBody):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=200, examples=["nightly pipeline"])]
    scope: Scope = Scope.WRITE
    expires_in_days: Annotated[int, Field(ge=1, le=3650)] | None = None


class KeyView(BaseModel):
    id: str
    name: str
    project: str
    scope: Scope
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class NewKey(KeyView):
    key: str = Field(description="shown this once; send it as `Authorization: Bearer …`")


class KeyList(BaseModel):
    items: list[KeyView]
