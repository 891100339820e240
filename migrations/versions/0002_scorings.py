"""scorings."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "scorings",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("estimators", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("scores", sa.JSON(), nullable=True),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_scorings_project_id_projects")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_scorings")),
    )
    with op.batch_alter_table("scorings", schema=None) as batch_op:
        batch_op.create_index("ix_scorings_project_id_created_at", ["project_id", "created_at"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("scorings", schema=None) as batch_op:
        batch_op.drop_index("ix_scorings_project_id_created_at")

    op.drop_table("scorings")
