"""The code location ``analytics`` and the dbt project, built on a real database."""
