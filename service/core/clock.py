"""The database's clock: lease expiry is never judged by a machine's own."""

from datetime import UTC, datetime

from sqlalchemy import Float
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class db_epoch(FunctionElement[float]):  # noqa: N801 - reads as an SQL function
    """Seconds since 1970 by the database's clock."""

    type = Float(precision=53)
    inherit_cache = True


@compiles(db_epoch, "sqlite")
def _sqlite(_element: db_epoch, _compiler: SQLCompiler, **_kw: object) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(db_epoch, "postgresql")
def _postgresql(_element: db_epoch, _compiler: SQLCompiler, **_kw: object) -> str:
    return "extract(epoch from clock_timestamp())::double precision"


def utc_now() -> datetime:
    return datetime.now(UTC)
