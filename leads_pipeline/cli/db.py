"""``leads db``: the embedded PostgreSQL, and the schema of whichever database is configured."""

import click

from leads_pipeline.clock import SystemClock
from leads_pipeline.config import DATABASE_URL_VARIABLE, Settings, database_url, load_settings
from leads_pipeline.errors import ConfigError
from leads_pipeline.storage.database import sqlalchemy_url
from leads_pipeline.storage.embedded import EmbeddedServer, ServerState


@click.group()
def db() -> None:
    """Start, stop and upgrade the database.

    Without LEADS_DATABASE_URL the product runs its own PostgreSQL, listening on 127.0.0.1 only. Every command that
    needs it starts it; it keeps running until `leads db stop`. With LEADS_DATABASE_URL set, that database is used
    instead, and only `status`, `url` and `upgrade` apply.
    """


@db.command()
@click.pass_obj
def start(config_file: str | None) -> None:
    """Start the embedded PostgreSQL and upgrade its schema. Does nothing if it runs already."""
    from leads_pipeline.storage.open import open_database

    settings = _embedded(config_file, "start")
    open_database(settings, application_name="leads db start").dispose()
    _print_status(EmbeddedServer(settings.state_path))


@db.command()
@click.pass_obj
def stop(config_file: str | None) -> None:
    """Stop the embedded PostgreSQL, whoever started it. What was committed is kept."""
    server = EmbeddedServer(_embedded(config_file, "stop").state_path)
    click.echo("stopped" if server.stop() else "it does not run")


@db.command()
@click.pass_obj
def status(config_file: str | None) -> None:
    """Show which database is used, whether it answers, and the version of its schema. Changes nothing.

    Exits 0 if the database can be used as it is, else 1.
    """
    settings = load_settings(config_file)
    configured = database_url()
    server = EmbeddedServer(settings.state_path)
    if configured is None:
        _print_status(server)
        if server.status().state is not ServerState.RUNNING:
            raise SystemExit(1)
    else:
        click.echo(f"database   {_without_password(configured)} ({DATABASE_URL_VARIABLE})")
    if not _print_schema(configured or server.url()):
        raise SystemExit(1)


@db.command()
@click.option("--database", metavar="NAME", help="Another database of the same server.")
@click.pass_obj
def url(config_file: str | None, database: str | None) -> None:
    """Print the URL of the database, with its password: psql "$(leads db url)"."""
    settings = load_settings(config_file)
    found = database_url() or EmbeddedServer(settings.state_path).url()
    if database is not None:
        parsed = sqlalchemy_url(found).set(drivername="postgresql", database=database)
        found = parsed.render_as_string(hide_password=False)
    click.echo(found)


@db.command()
@click.pass_obj
def upgrade(config_file: str | None) -> None:
    """Bring the schema to this version: migrations, partitions, roles. Safe to repeat, and to run from many at once.

    Works on LEADS_DATABASE_URL if that is set, else on the embedded PostgreSQL.
    """
    from leads_pipeline.storage import migrate
    from leads_pipeline.storage.database import engine_for
    from leads_pipeline.storage.open import explained_refusals, url_of

    engine = engine_for(url_of(load_settings(config_file)), application_name="leads db upgrade")
    try:
        with explained_refusals(engine):
            report = migrate.upgrade(engine, now=SystemClock().now())
    finally:
        engine.dispose()
    before = report.version_before or "none"
    click.echo(f"schema {report.version}" + ("" if before == report.version else f" (was {before})"))
    if report.partitions_created:
        click.echo(f"{len(report.partitions_created)} partitions made")
    for notice in report.notices:
        click.secho(f"notice: {notice}", fg="yellow", err=True)


@db.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def remove(config_file: str | None, *, yes: bool) -> None:
    """Stop the embedded PostgreSQL and delete it with all its data. There is no way back."""
    server = EmbeddedServer(_embedded(config_file, "remove").state_path)
    if not server.directory.exists():
        click.echo("there is none")
        return
    if not yes:
        click.confirm(f"Delete {server.directory} and every lead in it?", abort=True)
    server.remove()
    click.echo(f"removed {server.directory}")


def _embedded(config_file: str | None, command: str) -> Settings:
    if database_url() is not None:
        raise ConfigError(
            f"`leads db {command}` is about the embedded PostgreSQL, but {DATABASE_URL_VARIABLE} names another "
            f"database; unset it to use the embedded one"
        )
    return load_settings(config_file)


def _print_status(server: EmbeddedServer) -> None:
    found = server.status()
    click.echo(f"database   embedded PostgreSQL, {found.state}")
    click.echo(f"directory  {found.directory}")
    if found.port is not None:
        click.echo(f"address    127.0.0.1:{found.port}" + ("" if found.pid is None else f", pid {found.pid}"))
    if found.user is not None:
        click.echo(f"user       {found.user}")


def _print_schema(found: str) -> bool:
    from leads_pipeline.storage.database import engine_for
    from leads_pipeline.storage.migrate import current_version, expected_version
    from leads_pipeline.storage.open import explained_refusals

    engine = engine_for(found, pool_size=1, application_name="leads db status")
    try:
        with explained_refusals(engine), engine.connect() as connection:
            version = current_version(connection)
    finally:
        engine.dispose()
    if version == expected_version():
        click.echo(f"schema     {version}")
        return True
    click.echo(f"schema     {version or 'none'}; this version needs {expected_version()}: run `leads db upgrade`")
    return False


def _without_password(url: str) -> str:
    return sqlalchemy_url(url).set(drivername="postgresql").render_as_string(hide_password=True)
