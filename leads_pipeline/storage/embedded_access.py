"""The way into an embedded server: its port, its password, its URL, and whether what answers there is ours."""

import os
import secrets
import socket
from pathlib import Path

import psycopg

from leads_pipeline.errors import EmbeddedServerError
from leads_pipeline.storage.embedded_binaries import WAY_OUT
from leads_pipeline.storage.embedded_home import Home

SUPERUSER = "leads"


def usable_port(home: Home) -> int:
    """The remembered port if it is free, else another, remembered from now on."""
    for wanted in (read_port(home) or 0, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as candidate:
            # As PostgreSQL does: the last server's closed connections do not block the port.
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind(("127.0.0.1", wanted))
            except OSError:
                continue
            port = int(candidate.getsockname()[1])
        write_private(home.port, str(port))
        return port
    raise EmbeddedServerError(f"no free TCP port on 127.0.0.1 for the embedded PostgreSQL; free one, {WAY_OUT}")


def read_port(home: Home) -> int | None:
    """The port that the server had last."""
    try:
        return int(home.port.read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return None


def password_of(home: Home) -> str:
    """The superuser's password, made once. Only under the lock may it be missing."""
    try:
        return home.password.read_text(encoding="ascii")
    except FileNotFoundError:
        pass
    if (home.data / "PG_VERSION").exists():
        raise EmbeddedServerError(
            f"{home.password} is gone, and with it the way into {home.data}. Restore it, delete the directory "
            f"{home.directory} with its data, {WAY_OUT}"
        )
    password = secrets.token_urlsafe(24)
    write_private(home.password, password)
    return password


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 600 in one step as seen from outside."""
    partial = path.with_name(f"{path.name}.partial-{secrets.token_hex(4)}")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


def url_for(port: int, password: str, database: str) -> str:
    """The superuser's URL of a database. The password has no character that a URL would escape."""
    return f"postgresql://{SUPERUSER}:{password}@127.0.0.1:{port}/{database}"


def is_ours(home: Home, port: int, database: str = "postgres") -> bool:
    """Whether the server on ``port`` takes our password, runs over our data and has the database.

    Another server may have taken the port, and a starter that was killed may have left ours without its database.
    """
    try:
        with psycopg.connect(url_for(port, password_of(home), database), connect_timeout=5) as connection:
            row = connection.execute("select current_setting('data_directory')").fetchone()
    except psycopg.OperationalError:
        return False
    return row is not None and row[0] == str(home.data)
