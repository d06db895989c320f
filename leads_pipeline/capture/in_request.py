"""What the sender of one lead is told of its e-mail address, before it is answered: only where its source opts in.

Local checks and DNS, nothing that is paid for: a paid look-up must be recorded in the database before it is sent, and
the door may not do that. No lead is refused, lost or kept waiting longer than its source's budget over any of this.

``door`` imports this module only if a source opts in: the lists of mailboxes and the DNS client weigh more than the
rest of the door.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from leads_pipeline.clock import Clock
from leads_pipeline.config import InRequestSettings, Settings
from leads_pipeline.domain.emails import Email, EmailFault, parse_email
from leads_pipeline.domain.lane_rules import lane_of
from leads_pipeline.domain.mailbox_lists import mailbox_lists
from leads_pipeline.domain.text import as_text
from leads_pipeline.domain.verification import LookupVerdict, Standing
from leads_pipeline.errors import ConfigError
from leads_pipeline.sources.reading import PostReader
from leads_pipeline.telemetry import get_logger
from leads_pipeline.verification.mx import MxResolver, dns_name, holds_for
from leads_pipeline.verification.mx_context import as_context

if TYPE_CHECKING:
    from leads_pipeline.capture.door import WayIn

# Domains that one worker remembers, and domains that it asks for at once; beyond, an answer does not wait for DNS.
MAX_REMEMBERED = 10_000
MAX_ASKED_FOR = 200

UNVERIFIED = "unverified"
# What the local checks call by another name than a look-up does.
_FLAG_REASONS = {"disposable_mailbox": "disposable", "role_mailbox": "role"}
_FAULT_REASONS = {"email_placeholder": "placeholder"}

_Said = tuple[LookupVerdict, datetime]  # a verdict, and when DNS gave it

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Verified:
    """``answer`` is ``verification`` in the sender's answer; ``context`` is added to the lead's own."""

    answer: Mapping[str, Any]
    context: Mapping[str, Any] = field(default_factory=dict)


class InRequest:
    """One worker's. ``close`` ends what still asks DNS."""

    def __init__(self, settings: Settings, *, clock: Clock) -> None:
        self._settings = settings
        self._readers: dict[tuple[str, str], PostReader] = {}
        self._domains: _Domains | None = None
        try:
            if _wants_mx(settings):
                self._domains = _Domains(settings, clock=clock)
        except ConfigError as error:
            # The door must open without DNS: the local checks are left.
            _log.error("no DNS for verification in the request", problem=str(error))

    async def verify(self, way: "WayIn", payload: dict[str, Any]) -> Verified | None:
        """What can be said of the lead's address now; ``None`` if it has none, or its source asks nothing.

        Never raises.
        """
        wanted = way.settings.verify_in_request
        if wanted is None:
            return None
        try:
            return await self._verify(way, payload, wanted)
        except Exception as error:  # noqa: BLE001 - whatever breaks here, the lead must be stored
            # Not the error's words: they may quote the lead.
            _log.error("verification in the request failed", error_class=type(error).__name__)
            return None

    async def close(self) -> None:
        """Nobody is answered any more."""
        if self._domains is not None:
            await self._domains.close()

    async def _verify(self, way: "WayIn", payload: dict[str, Any], wanted: InRequestSettings) -> Verified | None:
        if wanted.lanes and not _is_in_lanes(way, payload, wanted):
            return None
        text = as_text(self._reader(way).read(payload)[0].get("email"))
        if not text:
            return None
        email = parse_email(text, lists=mailbox_lists(**self._settings.mailbox_lists(way.tenant)))
        if isinstance(email, EmailFault):
            return Verified(_answer(Standing.INVALID, (_FAULT_REASONS.get(email.rule, "bad_syntax"),)))
        name = dns_name(email.address.rpartition("@")[2])
        if self._domains is None or "mx" not in wanted.lookups or name is None:
            return Verified(_judged(email, None, reason=None))
        found = await self._domains.verdict(name, budget_seconds=wanted.budget_ms / 1000)
        if found is None:
            return Verified(_judged(email, None, reason="timeout"))
        verdict, checked_at = found
        return Verified(_judged(email, verdict, reason=None), as_context(name, verdict, checked_at=checked_at))

    def _reader(self, way: "WayIn") -> PostReader:
        key = (way.tenant, way.source)
        reader = self._readers.get(key)
        if reader is None:
            reader = self._readers[key] = PostReader(way.settings)
        return reader


class _Domains:
    """What DNS says of domains, remembered in memory. Requests for one domain share one question."""

    def __init__(self, settings: Settings, *, clock: Clock) -> None:
        mx = settings.verification.mx
        share = max(1, mx.queries_per_second // settings.capture.workers)
        self._settings = mx
        self._resolver = MxResolver(mx.model_copy(update={"queries_per_second": share}))
        self._clock = clock
        self._known: dict[str, _Said] = {}  # the oldest first
        self._asking: dict[str, asyncio.Task[_Said]] = {}

    async def verdict(self, name: str, *, budget_seconds: float) -> _Said | None:
        """The verdict; ``None`` if DNS gives none within the budget. The question goes on then."""
        known = self._remembered(name)
        if known is not None:
            return known
        task = self._asking.get(name)
        if task is None:
            if len(self._asking) >= MAX_ASKED_FOR:
                return None
            task = self._asking[name] = asyncio.create_task(self._ask(name), name="MX for a request")
        await asyncio.wait((task,), timeout=budget_seconds)
        return task.result() if task.done() else None

    async def close(self) -> None:
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, name: str) -> _Said:
        try:
            verdict = await self._resolver.look_up_one(name)
            said = verdict, self._clock.now()
            self._known.pop(name, None)
            self._known[name] = said
            if len(self._known) > MAX_REMEMBERED:
                del self._known[next(iter(self._known))]
            return said
        finally:
            del self._asking[name]

    def _remembered(self, name: str) -> _Said | None:
        known = self._known.get(name)
        if known is None or known[1] + holds_for(known[0].standing, self._settings) <= self._clock.now():
            return None
        return known


def _wants_mx(settings: Settings) -> bool:
    return any(
        source.verify_in_request is not None and "mx" in source.verify_in_request.lookups
        for tenant in settings.tenants.values()
        for source in tenant.sources.values()
    )


def _is_in_lanes(way: "WayIn", payload: dict[str, Any], wanted: InRequestSettings) -> bool:
    rules = way.settings.lane_rules
    lane = lane_of(way.kind.fields(payload), rules, default=way.lane) if rules else way.lane
    return lane in wanted.lanes


def _judged(email: Email, mx: LookupVerdict | None, *, reason: str | None) -> dict[str, Any]:
    """The worst that is known. ``reason``: why DNS has said nothing yet."""
    local = tuple(_FLAG_REASONS[flag] for flag in email.flags if flag in _FLAG_REASONS)
    reasons = [*(mx.reasons if mx is not None else ()), *local, *([reason] if reason else [])]
    if mx is not None and mx.standing is Standing.INVALID:
        standing: str = Standing.INVALID
    elif local:
        standing = Standing.RISKY
    else:
        standing = Standing.VALID if mx is not None and mx.standing is Standing.VALID else UNVERIFIED
    return _answer(standing, tuple(reasons), suggestion=email.suggestion)


def _answer(standing: str, reasons: tuple[str, ...], *, suggestion: str | None = None) -> dict[str, Any]:
    said: dict[str, Any] = {"standing": standing, "reasons": reasons}
    if suggestion is not None:
        said["suggestion"] = suggestion
    return {"email": said}
