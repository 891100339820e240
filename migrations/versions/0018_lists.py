"""Lists of a project go by id, which is by time: their indexes are in that order, and datasets are found by name."""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_datasets_project_id_created_at", table_name="datasets")
    op.create_index("ix_datasets_project_id_id", "datasets", ["project_id", "id"])
    op.create_index("ix_datasets_project_id_name", "datasets", ["project_id", "name"])
    op.drop_index("ix_rankings_project_id_created_at", table_name="rankings")
    op.create_index("ix_rankings_project_id_id", "rankings", ["project_id", "id"])


def downgrade() -> None:
    op.drop_index("ix_rankings_project_id_id", table_name="rankings")
    op.create_index("ix_rankings_project_id_created_at", "rankings", ["project_id", "created_at"])
    op.drop_index("ix_datasets_project_id_name", table_name="datasets")
    op.drop_index("ix_datasets_project_id_id", table_name="datasets")
    op.create_index("ix_datasets_project_id_created_at", "datasets", ["project_id", "created_at"])
