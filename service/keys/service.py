"""Making, checking and revoking API keys."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.orm import Session

from service.core.clock import utc_now
from service.core.ids import new_id
from service.keys import repository
from service.keys.errors import Forbidden, Unauthorized
from service.keys.schemas import KeyCreate, KeyView, NewKey, Scope
from service.keys.tables import KeyRow

LAST_USED_PRECISION = timedelta(minutes=1)
_TOKEN = re.compile(r"zs_(?P<ident>[0-9a-z]{26})_(?P<secret>[A-Za-z0-9_-]{43})")
_INVALID = "The key is unknown, expired or revoked."


@dataclass(frozen=True, slots=True)
class Access:
    """What a valid key lets its bearer do."""

    project_id: str
    key_id: str
    scope: Scope
    last_use_is_old: bool

    def require(self, needed: Scope, /) -> None:
        """Raises Forbidden where the key's scope does not reach."""
        if not self.scope.reaches(needed):
            raise Forbidden(f"This key has the scope '{self.scope}'; the request needs '{needed}'.")


def create(session: Session, project_id: str, request: KeyCreate, /) -> NewKey:
    ident, secret = new_id("key"), secrets.token_urlsafe(32)
    row = repository.add(
        session,
        project_id,
        ident=ident,
        name=request.name,
        scope=request.scope,
        secret_sha256=_digest(secret),
        expires_at=utc_now() + timedelta(days=request.expires_in_days) if request.expires_in_days else None,
    )
    view = _views(session, [row])[0]
    return NewKey(**view.model_dump(), key=f"zs_{ident.removeprefix('key_')}_{secret}")


def check(session: Session, token: str, /) -> Access:
    """Raises Unauthorized for anything but a key that is valid now."""
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise Unauthorized(_INVALID)
    row = repository.find(session, f"key_{match['ident']}")
    known = row.secret_sha256 if row is not None else "0" * 64
    equal = hmac.compare_digest(known, _digest(match["secret"]))
    now = utc_now()
    if row is None or not equal or row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
        raise Unauthorized(_INVALID)
    old = row.last_used_at is None or now - row.last_used_at > LAST_USED_PRECISION
    return Access(row.project_id, row.id, Scope(row.scope), last_use_is_old=old)


def note_use(session: Session, access: Access, /) -> None:
    repository.touch(session, access.key_id, not_within=LAST_USED_PRECISION)


def revoke(session: Session, ident: str, /, *, project_id: str | None = None) -> KeyView:
    """At once, for good; revoking twice changes nothing."""
    row = repository.get(session, ident, project_id=project_id)
    row.revoked_at = row.revoked_at or utc_now()
    return _views(session, [row])[0]


def list_keys(session: Session, project_id: str | None, /) -> list[KeyView]:
    return _views(session, repository.keys_of(session, project_id))


def _views(session: Session, rows: list[KeyRow]) -> list[KeyView]:
    names = repository.project_names(session, {row.project_id for row in rows})
    return [
        KeyView(
            id=row.id,
            name=row.name,
            project=names[row.project_id],
            scope=Scope(row.scope),
            created_at=row.created_at,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
            last_used_at=row.last_used_at,
        )
        for row in rows
    ]


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
