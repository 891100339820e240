"""What a forward pass of one input takes in memory, beside how fast it is."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("extractors", sa.Column("forward_bytes", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("extractors") as table:
        table.drop_column("forward_bytes")
