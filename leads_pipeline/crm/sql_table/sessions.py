"""Connections to somebody's PostgreSQL: opened when they are needed, used again, and never waited for without end.

Nothing of the driver's words leaves here: they may name the host, the user or the row. Keep out: what is written.
"""

import os
import re
import socket
import threading
from contextlib import suppress
from urllib.parse import urlsplit

import psycopg
from pydantic import SecretStr

from leads_pipeline.crm.sql_table.statements import BEGIN, CONSTRAINTS_AT_ONCE
from leads_pipeline.errors import ConfigError

_CONNECT_SECONDS = 10
# Locks of others are short, or not worth a request's time: what is behind one is written at the next attempt.
_LOCK_SHARE = 0.1
# The server ends a statement that takes too long. One that has stopped answering is left this much later.
_GRACE_SECONDS = 1.0

# A server that refuses a connection tells no code through the driver; its words follow FATAL. They are those of a
# server that speaks English: with another one whatever is wrong counts as out of reach.
_REFUSED = {
    re.compile(r"authentication failed for user|no password supplied|no pg_hba\.conf entry"): "28000",
    re.compile(r'role "[^"]*" does not exist|is not permitted to log in'): "28000",
    re.compile(r'database "[^"]*" does not exist'): "3D000",
    re.compile(r"permission denied for database"): "42501",
    re.compile(r"too many (clients|connections)|remaining connection slots"): "53300",
    re.compile(r"is (starting up|shutting down|not yet accepting)|recovery mode"): "57P03",
}


class NotConnected(Exception):
    """There is no connection. ``sqlstate``: why the server refuses it, where that is known."""

    def __init__(self, sqlstate: str | None) -> None:
        self.sqlstate = sqlstate
        super().__init__(sqlstate or "not reachable")


class Sessions:
    """The connections of one destination. Safe to share between threads; each transaction has one for itself."""

    def __init__(self, url: SecretStr, *, timeout_seconds: float) -> None:
        self._url = url
        self._timeout_seconds = timeout_seconds
        self._idle: list[psycopg.Connection] = []
        self._ends: dict[int, threading.Timer] = {}
        self._lock = threading.Lock()

    def begin(self) -> psycopg.Connection:
        """A connection with a transaction begun, and its time-outs set.

        Raises:
            NotConnected: there is none; nothing was written.
        """
        with self._lock:
            used = self._idle.pop() if self._idle else None
        if used is not None:
            with suppress(psycopg.Error):  # the server has closed it since: that is nobody's fault
                return self._begun(used)
            self.give_up(used)
        connection = self._connected()
        try:
            return self._begun(connection)
        except psycopg.Error as error:
            self.give_up(connection)
            raise NotConnected(error.sqlstate) from None

    def give_back(self, connection: psycopg.Connection) -> None:
        """Keep a connection whose transaction has ended."""
        self._stop_watching(connection)
        with self._lock:
            self._idle.append(connection)

    def give_up(self, connection: psycopg.Connection) -> None:
        """Close a connection of which nobody knows in what state it is."""
        self._stop_watching(connection)
        with suppress(psycopg.Error):
            connection.close()

    def close(self) -> None:
        """Close what nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            self.give_up(connection)

    def _connected(self) -> psycopg.Connection:
        milliseconds = int(self._timeout_seconds * 1000)
        try:
            return psycopg.connect(
                self._url.get_secret_value(),
                connect_timeout=max(2, min(int(self._timeout_seconds), _CONNECT_SECONDS)),
                application_name="leads_pipeline",
                client_encoding="utf8",
                prepare_threshold=None,  # a pool of connections on the way may hand each transaction to another server
                keepalives_idle=max(1, int(self._timeout_seconds)),
                keepalives_interval=5,
                keepalives_count=3,
                tcp_user_timeout=milliseconds,
            )
        except psycopg.Error as error:
            raise NotConnected(error.sqlstate or _told(str(error))) from None

    def _begun(self, connection: psycopg.Connection) -> psycopg.Connection:
        self._watch(connection)
        statement = f"{int(self._timeout_seconds * 1000)}ms"
        lock = f"{int(self._timeout_seconds * _LOCK_SHARE * 1000)}ms"
        connection.execute(BEGIN, {"statement": statement, "lock": lock, "idle": statement})
        connection.execute(CONSTRAINTS_AT_ONCE)
        return connection

    def _watch(self, connection: psycopg.Connection) -> None:
        """Break the connection when a transaction takes far too long: a server that hangs keeps no time-outs."""
        timer = threading.Timer(self._timeout_seconds + _GRACE_SECONDS, _break, args=(connection,))
        timer.daemon = True
        with self._lock:
            self._ends[id(connection)] = timer
        timer.start()

    def _stop_watching(self, connection: psycopg.Connection) -> None:
        with self._lock:
            timer = self._ends.pop(id(connection), None)
        if timer is not None:
            timer.cancel()


def _break(connection: psycopg.Connection) -> None:
    """End both directions under the driver's feet: whoever waits for an answer sees that there is none."""
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)


def readable_url(secret: SecretStr, *, variable: str) -> SecretStr:
    """The URL in a secret; ``variable`` of the environment holds it.

    Raises:
        ConfigError: it is no URL of a PostgreSQL. The message does not repeat it.
    """
    text = secret.get_secret_value()
    try:
        scheme = urlsplit(text).scheme
        ports = str(psycopg.conninfo.conninfo_to_dict(text).get("port", "")).split(",")  # one for each host
    except (ValueError, psycopg.Error):
        scheme, ports = "", []
    if not all(port.isdigit() or not port for port in ports):
        scheme = ""
    if scheme not in ("postgresql", "postgres"):
        raise ConfigError(
            f"the environment variable {variable} holds no database URL; it must look like "
            "postgresql://user:password@host:port/name, with @ : / ? # % in a password written as "
            "%40 %3A %2F %3F %23 %25"
        )
    return secret


def _told(message: str) -> str | None:
    words = message.partition("FATAL:")[2] or message.partition("fe_sendauth:")[2]
    return next((sqlstate for pattern, sqlstate in _REFUSED.items() if pattern.search(words)), None)
