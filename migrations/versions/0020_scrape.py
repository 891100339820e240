"""What a scrape of the metrics counts and names is read from indexes."""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_tasks_kind_state", "tasks", ["kind", "state"])
    op.create_index("ix_models_project_id_weights_sha256", "models", ["project_id", "weights_sha256"])
    op.create_index("ix_extractors_project_id_created_at", "extractors", ["project_id", "created_at"])


def downgrade() -> None:
    op.drop_index("ix_extractors_project_id_created_at", table_name="extractors")
    op.drop_index("ix_models_project_id_weights_sha256", table_name="models")
    op.drop_index("ix_tasks_kind_state", table_name="tasks")
