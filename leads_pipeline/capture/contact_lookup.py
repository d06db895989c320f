"""``/v1/contacts/lookup``: what is known of one person, for teams that want to know before they call.

Asked with an API key of scope ``lookup``, which can do nothing else, over a connection of its own whose role reads
contacts and nothing else: the role with which the door takes leads reads none. What is asked and answered is written
nowhere. GET puts an address into URLs, which proxies write down; POST does not.
"""

import asyncio
from collections.abc import Mapping
from math import ceil
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec
import psycopg

from leads_pipeline.buffer.reconnecting import ReconnectingConnection
from leads_pipeline.capture.bodies import JSON_TYPES, media_type
from leads_pipeline.capture.call import Answer, Call, as_json, refusal
from leads_pipeline.capture.key_ring import KeyHolder
from leads_pipeline.capture.refusals import Code, Refused
from leads_pipeline.errors import DatabaseUnavailable
from leads_pipeline.storage.api_keys import KeyScope
from leads_pipeline.storage.roles import LOOKUP_ROLE
from leads_pipeline.telemetry import get_logger

if TYPE_CHECKING:
    from leads_pipeline.capture.door import Door

LOOKUP_PATH = "/v1/contacts/lookup"
MAX_BODY_BYTES = 4_096
# An answer takes a millisecond; who waits on the telephone does not wait for a server that is stuck.
ANSWER_SECONDS = 3.0
# The plan does not depend on what is asked for, and making it anew each time cost a third of an answer. One plan for
# all must be right also for tables that were empty when it was made: from one index to the next, row by row.
LOOKUP_SESSION = {
    "default_transaction_read_only": "on",
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}

_log = get_logger(__name__)


class Contacts:
    """One worker's way to the contacts. It connects with the first question."""

    def __init__(self, *, database_url: str, login_url: str | None) -> None:
        """``login_url`` is of a login made for this; without one the door's own takes the role for this connection."""
        session = dict(LOOKUP_SESSION)
        if login_url is None:
            session["role"] = LOOKUP_ROLE
        self._connection = ReconnectingConnection(
            login_url or database_url,
            application_name="leads_capture lookup",
            answer_seconds=ANSWER_SECONDS,
            session=session,
        )
        self._modules: tuple[ModuleType, ModuleType] | None = None

    async def find(self, given: Mapping[str, object], *, tenant: str, country: str) -> dict[str, Any] | Refused:
        """The answer to a question of a tenant's."""
        # What reads addresses and numbers weighs more than the rest of the door: only who asks pays for it.
        if self._modules is None:
            self._modules = await asyncio.to_thread(_modules)
        domain, storage = self._modules
        question = domain.read_question(given, country=country)
        if not isinstance(question, domain.Question):
            return Refused(Code.INVALID_LOOKUP, fields=(question,))
        statement, parameters = storage.lookup_statement(question, tenant=tenant)
        try:
            rows = await self._connection.fetch(statement, parameters)
        except DatabaseUnavailable:
            # Also: the role does not exist, or this login may not take it. `leads db upgrade` and a login for
            # LEADS_LOOKUP_DATABASE_URL mend that.
            _log.error("contacts cannot be read", role=LOOKUP_ROLE)
            return Refused(Code.LOOKUP_UNAVAILABLE)
        except psycopg.errors.InsufficientPrivilege:
            _log.error("contacts may not be read by this login", role=LOOKUP_ROLE)
            return Refused(Code.LOOKUP_UNAVAILABLE)
        answer: dict[str, Any] = domain.answer(storage.known_contact(rows))
        return answer

    async def close(self) -> None:
        await self._connection.close()


def _modules() -> tuple[ModuleType, ModuleType]:
    from leads_pipeline.domain import contact_lookup as domain  # noqa: PLC0415 - heavy
    from leads_pipeline.storage import contact_lookup as storage  # noqa: PLC0415 - heavy

    return domain, storage


async def look_up(door: "Door", call: Call) -> Answer:
    """One question, one answer; unknown is an answer too."""
    if call.method not in ("GET", "POST"):
        return refusal(Refused(Code.METHOD_NOT_ALLOWED, headers=(("Allow", "GET, POST"),)), call)
    holder = await _holder(door, call)
    if isinstance(holder, Refused):
        return refusal(holder, call)
    given: Mapping[str, object] | Refused = call.query if call.method == "GET" else await _body(call)
    if isinstance(given, Refused):
        return refusal(given, call)
    assert door.contacts is not None
    country = door.settings.tenants[holder.tenant].country
    found = await door.contacts.find(given, tenant=holder.tenant, country=country)
    return refusal(found, call) if isinstance(found, Refused) else as_json(200, found)


async def _holder(door: "Door", call: Call) -> KeyHolder | Refused:
    """Whose key it is, and whether it may ask now. A key in the address is not looked at: proxies write it down."""
    try:
        holder = await door.keys.holder_of(call.key_in_headers)
    except DatabaseUnavailable:
        return Refused(Code.LOOKUP_UNAVAILABLE)
    if holder is None or holder.tenant not in door.settings.tenants:
        return Refused(Code.BAD_KEY, headers=(("WWW-Authenticate", 'Bearer realm="leads"'),))
    if holder.scope is not KeyScope.LOOKUP:
        return Refused(Code.WRONG_SCOPE)
    rate = door.settings.capture.lookup.rate
    wait = door.rates.wait_seconds(holder.key_id, rate, now=door.clock.monotonic())
    return Refused(Code.TOO_MANY_REQUESTS, wait_seconds=ceil(wait)) if wait else holder


async def _body(call: Call) -> Mapping[str, object] | Refused:
    kind = media_type(call.headers, JSON_TYPES)
    if isinstance(kind, Refused):
        return kind
    body = await call.body(limit=MAX_BODY_BYTES)
    if isinstance(body, Refused):
        return body
    try:
        given = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return Refused(Code.MALFORMED_JSON)
    except UnicodeDecodeError:
        return Refused(Code.MALFORMED_JSON)
    return given if isinstance(given, dict) else Refused(Code.NOT_AN_OBJECT)
