"""What the routes share: the settings, the keys, the writer; and who it is that posts."""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import TYPE_CHECKING, Any
from uuid import UUID

from leads_pipeline.buffer.bounds import gauge_for
from leads_pipeline.buffer.opening import open_async_buffer, open_async_depths
from leads_pipeline.buffer.port import EncodedLead, NewLead, content_key, event_key, named_key
from leads_pipeline.buffer.reconnecting import ReconnectingConnection
from leads_pipeline.capture.admission import Admission
from leads_pipeline.capture.call import Budget, Call, Deadlines
from leads_pipeline.capture.contact_lookup import Contacts
from leads_pipeline.capture.cors import Origins, may_post
from leads_pipeline.capture.counts import CountedBuffer, Counts, SharedCounts
from leads_pipeline.capture.doubts import Doubts
from leads_pipeline.capture.key_ring import KeyRing
from leads_pipeline.capture.outcome_posts import OutcomeStore
from leads_pipeline.capture.rate import RateLimiter
from leads_pipeline.capture.refusals import Code, Refused
from leads_pipeline.capture.writer import GroupCommit
from leads_pipeline.clock import Clock
from leads_pipeline.config import Settings, SourceSettings
from leads_pipeline.domain.consent_mapping import consent_statements
from leads_pipeline.domain.ids import uuid7
from leads_pipeline.domain.lane_rules import lane_of
from leads_pipeline.domain.orders import Orders
from leads_pipeline.domain.posted_lead import PostedLead
from leads_pipeline.domain.stage import Lane
from leads_pipeline.errors import ConfigError
from leads_pipeline.sources.port import Secrets, SourceKind
from leads_pipeline.sources.registry import KINDS
from leads_pipeline.storage.api_keys import KeyScope
from leads_pipeline.storage.orders import REFUSALS_IN_FORCE, refusals
from leads_pipeline.telemetry import get_logger

if TYPE_CHECKING:
    from leads_pipeline.capture.in_request import InRequest

MAX_USER_AGENT = 500

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WayIn:
    """One configured source, ready to be posted to."""

    tenant: str
    source: str
    settings: SourceSettings
    kind: SourceKind
    lane: Lane
    secrets: Secrets | None  # None: leads.yaml names one that the environment does not hold

    @property
    def reads_fields(self) -> bool:
        """Whether the door must look into a lead to know its lane and its consent."""
        return bool(self.settings.lane_rules or self.settings.consent)


@dataclass(frozen=True, slots=True)
class Sender:
    """Who posts, and what every lead of the request shares."""

    way: WayIn
    idempotency_key: str | None
    context: dict[str, Any]


class Door:
    """What the routes share. Keys are read over a connection of their own, so that no commit keeps them waiting."""

    def __init__(
        self,
        settings: Settings,
        *,
        database_url: str,
        clock: Clock,
        counts: Counts | None = None,
        lookup_url: str | None = None,
    ) -> None:
        """``lookup_url``: a login that reads contacts; without one the door's own takes the role for that."""
        self.settings = settings
        self.clock = clock
        self.reader = ReconnectingConnection(database_url, application_name="leads_capture keys")
        self.keys = KeyRing(self.reader, clock=clock)
        self.counts = counts or Counts(SharedCounts(settings, slots=1))
        self.commits = GroupCommit(
            CountedBuffer(open_async_buffer(settings, database_url), self.counts, clock=clock),
            clock=clock,
            max_queued=settings.capture.max_queued_leads,
        )
        self._depths = open_async_depths(settings, database_url)
        # A connection of its own: who waits for a lock on orders must not keep keys waiting.
        self._orders = ReconnectingConnection(database_url, application_name="leads_capture orders")
        self.admission = Admission(
            self._depths.read,
            gauge_for(settings, database_url=database_url, clock=clock),
            clock=clock,
            processes=settings.capture.workers,
            orders=self._orders_now,
        )
        self.budget = Budget(settings.capture.max_bytes_under_way)
        self.deadlines = Deadlines(settings.capture.body_seconds)
        self.origins = Origins(settings)
        self.rates = RateLimiter(share=settings.capture.workers)
        self.doubts = Doubts(clock)
        self.ways = _ways_in(settings)
        self.in_request = _in_request(settings, clock=clock)
        self.outcomes = OutcomeStore(database_url=database_url)
        self.contacts: Contacts | None = None
        if settings.capture.lookup.enabled:
            self.contacts = Contacts(database_url=database_url, login_url=lookup_url)

    async def check(self) -> None:
        """Raises ``DatabaseUnavailable`` unless leads would be stored now, ``QueueFull`` if too many wait for that."""
        await self.commits.check()

    def start(self) -> None:
        """Begin to write, in the running loop."""
        self.commits.start()
        self.admission.start()
        self.deadlines.start()

    async def close(self) -> None:
        """Finish what was accepted and close the connections."""
        await self.commits.close()
        if self.in_request is not None:
            await self.in_request.close()
        if self.contacts is not None:
            await self.contacts.close()
        await self.outcomes.close()
        self.deadlines.stop()
        await self.admission.close()
        await self._depths.close()
        await self._orders.close()
        await self.keys.close()
        await self.reader.close()

    async def _orders_now(self, now: datetime) -> Orders:
        return refusals(await self._orders.fetch(REFUSALS_IN_FORCE, {"now": now}))

    # --- who posts -----------------------------------------------------------------------------------------------

    async def key_holder(self, call: Call, *, named: WayIn | None = None) -> Sender | Refused:
        """Whose API key a request carries: everything that its headers decide, before a byte of its body is read.

        ``named`` is the source whose own address was called.
        """
        if self.commits.safe_mode is not None:
            return Refused(Code.DATABASE_UNAVAILABLE)
        presented = _presented_key(call)
        holder = await self.keys.holder_of(presented) if presented else None
        if holder is None:
            return Refused(Code.BAD_KEY, headers=(("WWW-Authenticate", 'Bearer realm="leads"'),))
        if holder.scope is not KeyScope.POST or holder.source is None:
            return Refused(Code.WRONG_SCOPE)
        source = _named_source(call) or holder.source
        way = self.ways.get((holder.tenant, source))
        if way is None:
            return Refused(Code.UNKNOWN_SOURCE)
        if source != holder.source or (named is not None and named is not way):
            return Refused(Code.SOURCE_MISMATCH)
        return self.admit(call, way, sender_id=holder.key_id)

    def admit(self, call: Call, way: WayIn, *, sender_id: str) -> Sender | Refused:
        """What is asked of every sender, once it is known who it is."""
        if not may_post(way.settings, call.headers):
            return Refused(Code.ORIGIN_NOT_ALLOWED)
        rate = way.settings.rate or self.settings.capture.rate
        wait = self.rates.wait_seconds(sender_id, rate, now=self.clock.monotonic())
        if wait:
            return Refused(Code.TOO_MANY_REQUESTS, wait_seconds=ceil(wait))
        if not self.admission.is_open(way.lane, way.tenant) and not way.settings.lane_rules:
            return Refused(Code.BUFFER_FULL)
        if not self.commits.has_room(1):
            return Refused(Code.QUEUE_FULL)
        key = call.header(b"idempotency-key")
        if key is not None and not (1 <= len(key) <= 255 and key.isascii() and key.isprintable()):
            return Refused(Code.INVALID_IDEMPOTENCY_KEY)
        return Sender(way, key, _context(call, way, key))

    # --- a lead's envelope ---------------------------------------------------------------------------------------

    def encode(
        self,
        sender: Sender,
        lead: PostedLead,
        *,
        index: int | None = None,
        event_id: str | None = None,
        context: dict[str, Any] | None = None,
    ) -> EncodedLead | Refused:
        """The lead as the buffer is sent it: under the sender's key, else the vendor's event id, else its content."""
        way = sender.way
        lane, consent = way.lane, lead.consent
        if way.reads_fields:
            fields = way.kind.fields(lead.payload)
            lane = lane_of(fields, way.settings.lane_rules, default=lane)
            consent = [*consent, *consent_statements(fields, way.settings.consent)]
        if not self.admission.is_open(lane, way.tenant):
            return Refused(Code.BUFFER_FULL)
        if sender.idempotency_key is not None:
            key_hex, body_hex = named_key(sender.idempotency_key, lead, index=index)
        elif event_id is not None:
            key_hex, body_hex = event_key(event_id)
        else:
            key_hex, body_hex = content_key(lead)
        now = self.clock.now()
        return NewLead(
            lead_id=uuid7(now),
            tenant=way.tenant,
            source=way.source,
            lane=lane,
            received_at=now,
            key_hex=key_hex,
            body_hex=body_hex,
            payload=lead.payload,
            consent=consent,
            context=sender.context if context is None else context,
        ).encoded()

    def any_id(self) -> UUID:
        """An id as a lead would have, for an answer to nobody's lead."""
        return uuid7(self.clock.now())


def _ways_in(settings: Settings) -> dict[tuple[str, str], WayIn]:
    found: dict[tuple[str, str], WayIn] = {}
    for tenant, tenant_settings in settings.tenants.items():
        for name, source in tenant_settings.sources.items():
            secrets = _secrets(source)
            if secrets is None:
                _log.error("source is not ready: its secret is not set", tenant=tenant, source=name)
            found[tenant, name] = WayIn(tenant, name, source, KINDS[source.kind], Lane(source.lane), secrets)
    return found


def _in_request(settings: Settings, *, clock: Clock) -> "InRequest | None":
    sources = [source for tenant in settings.tenants.values() for source in tenant.sources.values()]
    if all(source.verify_in_request is None for source in sources):
        return None
    from leads_pipeline.capture.in_request import InRequest  # noqa: PLC0415 - heavy, and for those who opt in

    return InRequest(settings, clock=clock)


def _secrets(source: SourceSettings) -> Secrets | None:
    try:
        return Secrets(
            signing="" if source.secret is None else source.secret.resolve().get_secret_value(),
            verify_token="" if source.verify_token is None else source.verify_token.resolve().get_secret_value(),
        )
    except ConfigError:
        return None


def _presented_key(call: Call) -> str:
    # A plain HTML form can send no header; its key is public anyway, as it stands in the page.
    return call.key_in_headers or call.query.get("key", "").strip()


def _named_source(call: Call) -> str | None:
    if call.scope["query_string"] and (named := call.query.get("source")):
        return named
    return call.header(b"x-leads-source")


def _context(call: Call, way: WayIn, key: str | None) -> dict[str, Any]:
    """How the lead came. The address and the browser are the person's only where no server stands in between: a browser
    names the page's site with every post of a script, a server has none to name.
    """
    person = way.kind.from_browser and (b"origin" in call.headers or way.kind.answers_browsers)
    context: dict[str, Any] = {"content_type": (call.header(b"content-type") or "")[:100]}
    ip = call.client_ip
    agent = call.header(b"user-agent")
    if ip is not None:
        context["ip" if person else "sender_ip"] = ip
    if agent:
        context["user_agent" if person else "sender_agent"] = agent[:MAX_USER_AGENT]
    if key is not None:
        context["idempotency_key_sha256"] = hashlib.sha256(key.encode()).hexdigest()
    return context
