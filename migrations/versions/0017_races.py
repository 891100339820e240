"""Rankings with a budget: which sample each candidate has reached, and why it went no further."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("rankings", schema=None) as batch_op:
        batch_op.add_column(sa.Column("race", sa.JSON(), nullable=True))
    with op.batch_alter_table("ranking_entries", schema=None) as batch_op:
        batch_op.add_column(sa.Column("sample", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("chance", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("dropped", sa.Text(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("ranking_entries", schema=None) as batch_op:
        batch_op.drop_column("dropped")
        batch_op.drop_column("chance")
        batch_op.drop_column("sample")
    with op.batch_alter_table("rankings", schema=None) as batch_op:
        batch_op.drop_column("race")
