"""Alembic's entry: runs on the connection that ``store.database.upgrade`` hands over."""

from alembic import context

from lianzhen_hub.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=False,  # the caller's transaction holds all of it
)
context.run_migrations()
