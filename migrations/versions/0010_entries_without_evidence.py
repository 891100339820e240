"""An entry has one evidence id an estimator, which follow from its extractor and its ranking: none is kept any more."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("ranking_entries", schema=None) as batch_op:
        batch_op.drop_column("evidence_id")


def downgrade() -> None:
    with op.batch_alter_table("ranking_entries", schema=None) as batch_op:
        batch_op.add_column(sa.Column("evidence_id", sa.String(length=64), nullable=True))
