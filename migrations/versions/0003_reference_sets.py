"""Which sealed dataset is a project's reference set, and which one a ranking was computed against."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "reference_sets",
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("dataset_id", sa.String(length=40), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_reference_sets_project_id_projects")),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name=op.f("fk_reference_sets_dataset_id_datasets")),
        sa.PrimaryKeyConstraint("project_id", name=op.f("pk_reference_sets")),
    )
    with op.batch_alter_table("rankings", schema=None) as batch_op:
        batch_op.add_column(sa.Column("reference_dataset_id", sa.String(length=40), nullable=True))
        batch_op.add_column(sa.Column("reference_fingerprint", sa.String(length=64), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("rankings", schema=None) as batch_op:
        batch_op.drop_column("reference_fingerprint")
        batch_op.drop_column("reference_dataset_id")

    op.drop_table("reference_sets")
