"""A dataset made from another one, and what was changed."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        batch_op.add_column(sa.Column("parent_id", sa.String(length=40), nullable=True))
        batch_op.add_column(sa.Column("changes", sa.JSON(), nullable=True))
        batch_op.create_foreign_key(
            op.f("fk_datasets_parent_id_datasets"), "datasets", ["parent_id"], ["id"], ondelete="SET NULL"
        )
        batch_op.create_index("ix_datasets_parent_id", ["parent_id"], unique=False)


def downgrade() -> None:
    with op.batch_alter_table("datasets", schema=None) as batch_op:
        batch_op.drop_index("ix_datasets_parent_id")
        batch_op.drop_constraint(op.f("fk_datasets_parent_id_datasets"), type_="foreignkey")
        batch_op.drop_column("changes")
        batch_op.drop_column("parent_id")
