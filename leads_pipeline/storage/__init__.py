"""PostgreSQL: the schema, its migrations, the embedded server, and one module per family of tables."""
