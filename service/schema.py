"""Every table of the service, imported in one place for migrations and for SQLAlchemy's mapper."""

from sqlalchemy import MetaData

from service.core.db import Base


def all_tables() -> MetaData:
    import service.datasets.tables
    import service.embeddings.tables
    import service.idempotency.tables
    import service.inspections.tables
    import service.jobs.tables
    import service.keys.tables
    import service.models.tables
    import service.outcomes.tables
    import service.prescores.tables
    import service.rankings.tables
    import service.scoring.tables
    import service.webhooks.tables  # noqa: F401

    return Base.metadata
