"""Prescores: their datasets and pairs, and how recommendations changed by them."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "prescores",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("scheduled", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("deadline", sa.Float(precision=53), nullable=True),
        sa.Column("error", sa.JSON(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_prescores_project_id_projects")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_prescores")),
    )
    with op.batch_alter_table("prescores", schema=None) as batch_op:
        batch_op.create_index("ix_prescores_project_id_created_at", ["project_id", "created_at"], unique=False)

    op.create_table(
        "prescored_datasets",
        sa.Column("prescore_id", sa.String(length=40), nullable=False),
        sa.Column("dataset_id", sa.String(length=40), nullable=False),
        sa.Column("ranking_id", sa.String(length=40), nullable=False),
        sa.Column("before", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_prescored_datasets_dataset_id_datasets"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["prescore_id"],
            ["prescores.id"],
            name=op.f("fk_prescored_datasets_prescore_id_prescores"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("prescore_id", "dataset_id", name=op.f("pk_prescored_datasets")),
    )
    op.create_table(
        "prescore_pairs",
        sa.Column("prescore_id", sa.String(length=40), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("dataset_id", sa.String(length=40), nullable=False),
        sa.Column("model_id", sa.String(length=40), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["datasets.id"], name=op.f("fk_prescore_pairs_dataset_id_datasets"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["model_id"], ["models.id"], name=op.f("fk_prescore_pairs_model_id_models"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["prescore_id"], ["prescores.id"], name=op.f("fk_prescore_pairs_prescore_id_prescores"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("prescore_id", "place", name=op.f("pk_prescore_pairs")),
    )
    with op.batch_alter_table("prescore_pairs", schema=None) as batch_op:
        batch_op.create_index("ix_prescore_pairs_dataset_id", ["dataset_id"], unique=False)
        batch_op.create_index("ix_prescore_pairs_model_id", ["model_id"], unique=False)

    op.create_table(
        "recommendation_changes",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("project_id", sa.String(length=40), nullable=False),
        sa.Column("dataset_id", sa.String(length=40), nullable=False),
        sa.Column("prescore_id", sa.String(length=40), nullable=True),
        sa.Column("ranking_id", sa.String(length=40), nullable=False),
        sa.Column("before", sa.JSON(), nullable=False),
        sa.Column("after", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.id"],
            name=op.f("fk_recommendation_changes_dataset_id_datasets"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["prescore_id"],
            ["prescores.id"],
            name=op.f("fk_recommendation_changes_prescore_id_prescores"),
            ondelete="SET NULL",
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_recommendation_changes_project_id_projects")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_recommendation_changes")),
    )
    with op.batch_alter_table("recommendation_changes", schema=None) as batch_op:
        batch_op.create_index("ix_recommendation_changes_dataset_id", ["dataset_id"], unique=False)
        batch_op.create_index("ix_recommendation_changes_project_id_id", ["project_id", "id"], unique=False)

    with op.batch_alter_table("rankings", schema=None) as batch_op:
        batch_op.add_column(sa.Column("prescore_id", sa.String(length=40), nullable=True))
        batch_op.create_index("ix_rankings_prescore_id", ["prescore_id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("rankings", schema=None) as batch_op:
        batch_op.drop_index("ix_rankings_prescore_id")
        batch_op.drop_column("prescore_id")
    op.drop_table("recommendation_changes")
    op.drop_table("prescore_pairs")
    op.drop_table("prescored_datasets")
    op.drop_table("prescores")
