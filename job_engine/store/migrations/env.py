"""Alembic's entry: migrates over the connection that `migrate.upgrade` hands in."""

from alembic import context

from job_engine.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
context.run_migrations()
