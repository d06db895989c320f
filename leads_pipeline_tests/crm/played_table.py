"""A table of somebody's PostgreSQL, with names that must be quoted, and what can befall those who write to it."""

from collections.abc import Mapping
from contextlib import ExitStack, closing
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import pytest

from leads_pipeline.config import SecretRef, SqlSettings
from leads_pipeline.crm.clients import BUILDERS
from leads_pipeline.crm.port import CrmClient
from leads_pipeline.outbound.access_tokens import MemoryTokens
from leads_pipeline.sandbox.faults import FaultKind
from leads_pipeline_tests.crm.contract import Held
from leads_pipeline_tests.crm.cut_connections import AFTER, BEFORE, Middleman

ROLE, PASSWORD = "writer", "correct horse"

_TABLE = """
create schema "CRM";
create type stage as enum ('new', 'won');
create table "CRM"."Contacts EU" (
    "Contact Id" uuid primary key,
    version bigint not null,
    email text check (email like '%@%'),
    "First 'Name'; --" text,
    last_name varchar(20) not null,
    company text,
    stage stage,
    "when" timestamptz,
    made_at timestamptz not null default now(),
    full_name text generated always as (coalesce("First 'Name'; --", '') || ' ' || last_name) stored,
    "Archived %s" timestamptz
);
"""


class PlayedTable:
    """A table, as the contract sees a vendor. ``url`` is that of its owner."""

    names: Mapping[str, str] = {
        "email": "email", "first_name": "First 'Name'; --", "last_name": "last_name", "company": "company",
    }  # fmt: skip
    key = "Contact Id"
    table = '"CRM"."Contacts EU"'

    def __init__(self, url: str, stack: ExitStack, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        self._stack = stack
        self._monkeypatch = monkeypatch
        self._settings = settings
        self.owner = stack.enter_context(closing(psycopg.connect(url, autocommit=True)))
        self.owner.execute(_TABLE)
        parts = urlsplit(url)
        assert parts.hostname is not None and parts.port is not None  # noqa: PT018 - one thing: an address
        self.role = f"{ROLE}_{parts.path[1:]}"
        self.owner.execute(f"create role {self.role} login password '{PASSWORD}'")
        stack.callback(self._drop_role)
        self.allow()
        self.middleman = stack.enter_context(closing(Middleman(parts.hostname, parts.port)))
        self.url = f"postgresql://{self.role}:correct%20horse@127.0.0.1:{self.middleman.port}{parts.path}"
        self._locks: ExitStack = stack.enter_context(ExitStack())
        self.owner_url = url

    def client(self, *, timeout_seconds: float = 5, base_url: str | None = None) -> CrmClient:
        url = self.url if base_url is None else "postgresql://nobody:secret@127.0.0.1:9/nowhere"
        self._monkeypatch.setenv("LEADS_TABLE_URL", url)
        settings = SqlSettings(
            **{
                "vendor": "sql", "account": "table", "url": SecretRef(env="LEADS_TABLE_URL"),
                "table": 'CRM.Contacts EU', "key_column": self.key, "archived_column": "Archived %s",
                "batch_size": 50, "timeout_seconds": timeout_seconds, **self._settings,
            }
        )  # fmt: skip
        return self._stack.enter_context(closing(BUILDERS["sql"](settings, MemoryTokens())))

    def rows(self) -> list[dict[str, Any]]:
        with self.owner.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            return cursor.execute(f"select * from {self.table} order by 1").fetchall()

    def held(self) -> dict[UUID, Held]:
        found = {}
        for row in self.rows():
            if row["Archived %s"] is None:
                properties = {name: str(row[name]) for name in self.names.values() if row[name] is not None}
                found[row[self.key]] = Held(None, properties)
        return found

    def made_by_people(self, **fields: str) -> str:
        raise NotImplementedError("a row has our id or is none of ours")

    def count(self) -> int:
        return len(self.rows())

    def limited(self, requests: int) -> None:
        raise NotImplementedError("a table tells no limits")

    def fail(self, *rules: Mapping[str, Any]) -> None:
        """One trouble, after some requests that are spared."""
        self._locks.close()
        self.middleman.arm(None)
        self.allow()
        spared = sum(rule.get("count", 0) for rule in rules if rule["kind"] is FaultKind.SLOW)
        for rule in rules:
            kind = rule["kind"]
            if kind in (*BEFORE, *AFTER):
                self.middleman.arm(kind, spared=spared)
            elif kind is FaultKind.AUTH:
                self.owner.execute(f"alter role {self.role} password 'changed'")
            elif kind is FaultKind.FORBIDDEN_403:
                self.owner.execute(f"revoke all on {self.table} from {self.role}")
            elif kind is FaultKind.LOCKED_423:
                locker = self._locks.enter_context(closing(psycopg.connect(self.owner_url)))
                locker.execute(f"lock table {self.table} in exclusive mode")
            elif kind is FaultKind.HTTP_503:
                self.owner.execute(f"alter role {self.role} connection limit 0")
            else:
                assert kind is FaultKind.SLOW, f"{kind} is no trouble of a table"

    def allow(self) -> None:
        for statement in (
            f'grant usage on schema "CRM" to {self.role}',
            f"grant select, insert, update, delete on {self.table} to {self.role}",
            f"alter role {self.role} connection limit -1 password '{PASSWORD}'",
        ):
            self.owner.execute(statement)

    def _drop_role(self) -> None:
        self.owner.execute(f"drop owned by {self.role}")
        self.owner.execute(f"drop role {self.role}")
