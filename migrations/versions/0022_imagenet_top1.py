"""Published accuracy on ImageNet-1k, which places models without a record."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("models", sa.Column("imagenet_top1", sa.Double(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("models") as table:
        table.drop_column("imagenet_top1")
