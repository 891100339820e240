"""In which precision a model computes in a project, once a probe has decided."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "precisions",
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("extractor_id", sa.String(length=64), nullable=False),
        sa.Column("precision", sa.String(length=20), nullable=False),
        sa.Column("parity", sa.JSON(), nullable=False),
        sa.Column("device", sa.String(length=100), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_precisions_project_id_projects")),
        sa.PrimaryKeyConstraint("project_id", "extractor_id", name=op.f("pk_precisions")),
    )


def downgrade() -> None:
    op.drop_table("precisions")
