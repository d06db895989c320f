"""What Alembic runs around the versions, on the connection and in the transaction that ``storage.migrate`` opens."""

from alembic import context

from leads_pipeline.storage.schema import SCHEMA, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table_schema=SCHEMA,
)
with context.begin_transaction():
    context.run_migrations()
