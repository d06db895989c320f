"""Dagster's own storage: the database that leads.yaml means, without a second place that says which one that is.

``dagster.yaml`` names this class. It asks the settings, as every door does: ``LEADS_DATABASE_URL``, else the embedded
server, started if need be. So ``dg`` works in a fresh checkout, and no password stands in a file or on a command line.
"""

from typing import Any, Self

from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage

from leads_pipeline.config import load_settings
from leads_pipeline.storage.database import sqlalchemy_url
from leads_pipeline.storage.open import url_of


class LeadsPostgresStorage(DagsterPostgresStorage):
    """Runs, events and schedules in the schema ``public`` of the configured PostgreSQL."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> Self:  # noqa: ARG003
        return cls(dagster_url(url_of(load_settings())), inst_data=inst_data)


def dagster_url(url: str) -> str:
    """``url`` as Dagster needs it: through psycopg2, and with its tables in the schema ``public``.

    SQLAlchemy 2.1 takes a bare ``postgresql://`` to mean psycopg 3, with which dagster-postgres fails on every event it
    writes. And without the search path, a database user named like our schema (the embedded server's is) would find our
    tables first, and Dagster would take our migration's version for its own.
    """
    made = sqlalchemy_url(url, driver="psycopg2").update_query_dict({"options": "-csearch_path=public"})
    return made.render_as_string(hide_password=False)
