"""The data model thought over.

Text compares by code point on every database, no key is empty, and the order that is asked for most has an index.
"""

import sqlalchemy as sa
from alembic import op

from sqlrepo.sqlalchemy import types

revision = "0002"
down_revision = "0001"

INDEX = "ix_todo_priority_key"
CHECK = "ck_todo_key_not_empty"
# What SQLite left without a name is named when the table is made anew.
NAMES = {"pk": "pk_%(table_name)s", "uq": "uq_%(table_name)s_%(column_0_name)s"}


def upgrade() -> None:
    with op.batch_alter_table("todo", naming_convention=NAMES) as todo:
        todo.alter_column("key", type_=types.Text(100), existing_type=sa.String(100), existing_nullable=False)
        todo.alter_column("value", type_=types.Text(1000), existing_type=sa.String(1000), existing_nullable=False)
        todo.create_check_constraint(op.f(CHECK), sa.column("key") != "")
    op.create_index(op.f(INDEX), "todo", [sa.column("priority").desc(), "key"])


def downgrade() -> None:
    op.drop_index(op.f(INDEX), "todo")
    with op.batch_alter_table("todo", naming_convention=NAMES) as todo:
        todo.drop_constraint(op.f(CHECK), type_="check")
        todo.alter_column("value", type_=sa.String(1000), existing_type=types.Text(1000), existing_nullable=False)
        todo.alter_column("key", type_=sa.String(100), existing_type=types.Text(100), existing_nullable=False)
