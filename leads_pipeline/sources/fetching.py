"""Asking a vendor for a lead that it only named: one request a lead, read into one verdict.

Over HTTP and therefore never in the door's request. Add a vendor whose posts have a ``reference``: its request and the
reading of its answers here, the reading of what was fetched in its kind's module. Keep out: when to ask again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import quote

from pydantic import SecretStr

from leads_pipeline.clock import Clock
from leads_pipeline.config import SourceSettings
from leads_pipeline.errors import AccountParked
from leads_pipeline.outbound.credentials import StaticKey
from leads_pipeline.outbound.gate import Gate
from leads_pipeline.outbound.transport import HttpAnswer, NetworkFailure, Transport
from leads_pipeline.sources.hubspot import CONTACT_PROPERTIES
from leads_pipeline.sources.meta import LEAD_FIELDS

TIMEOUT_SECONDS = 10.0
# A request of which nobody reports the end counts as under way for so long: its time-out, and a bit.
EXPIRES_AFTER = timedelta(seconds=TIMEOUT_SECONDS + 10)
# Requests under way at once for one source: far below any vendor's limit.
CONNECTIONS = 4

_LONGEST_PAUSE = 86_400.0


class FetchVerdict(StrEnum):
    """What became of asking for one lead. Stored; ``leads journey`` shows it."""

    FETCHED = "fetched"
    GONE = "gone"  # the vendor says that there is no such lead (any more)
    ABSENT = "absent"  # there is none, or we may not see it: the vendor does not say which
    FAILED = "failed"  # the vendor's trouble with this lead, or an answer that cannot be read
    UNREACHABLE = "unreachable"
    THROTTLED = "throttled"
    REFUSED = "refused"  # our token is not accepted, or may not read leads
    NOT_CONFIGURED = "not_configured"  # leads.yaml has no such source, or its token is not set
    EXPIRED = "expired"  # asked for as long as the vendor keeps leads


# They say nothing about the lead: the source's other leads would be told the same.
SOURCE_WIDE = frozenset(
    {FetchVerdict.UNREACHABLE, FetchVerdict.THROTTLED, FetchVerdict.REFUSED, FetchVerdict.NOT_CONFIGURED}
)


@dataclass(frozen=True, slots=True)
class FetchAnswer:
    """A verdict; the vendor's object if there is one; how many seconds the vendor asks us to wait."""

    verdict: FetchVerdict
    found: dict[str, Any] | None = field(default=None, repr=False)
    retry_after: float | None = None


class Vendor(Protocol):
    """How one vendor is asked. ``kept``: how long it keeps a lead (``None``: until somebody deletes it)."""

    base_url: str
    kept: timedelta | None

    def path(self, reference: str, settings: SourceSettings, also: Sequence[str] = ()) -> str:
        """What is asked for, below the base address; ``also`` are properties besides those that are mapped."""
        ...

    def read(self, answer: HttpAnswer) -> FetchAnswer:
        """What the vendor answered."""
        ...


class HubSpotContacts:
    """A contact with the properties that are mapped; HubSpot answers only those that are named."""

    base_url = "https://api.hubapi.com"
    kept: timedelta | None = None

    def path(self, reference: str, settings: SourceSettings, also: Sequence[str] = ()) -> str:
        named = [*(path for rule in settings.mapping.values() for path in rule.paths)]
        named += [rule.field for rule in settings.lane_rules]
        named += [path for item in settings.consent for path in (item.path, item.text_version_path) if path]
        own = [name.removeprefix("properties.") for name in named if name.startswith("properties.")]
        properties = ",".join(quote(name, safe="") for name in dict.fromkeys([*CONTACT_PROPERTIES, *own, *also]))
        return f"/crm/v3/objects/contacts/{quote(reference, safe='')}?properties={properties}"

    def read(self, answer: HttpAnswer) -> FetchAnswer:
        body = answer.body if isinstance(answer.body, dict) else {}
        if answer.status == 200 and isinstance(body.get("properties"), dict):
            return FetchAnswer(FetchVerdict.FETCHED, body)
        if answer.status in (429, 477):  # 477: the account is being moved
            # The day's quota comes back at the account's midnight, which nobody tells us: asked again every hour.
            usual = 3_600.0 if body.get("policyName") == "DAILY" else 10.0
            return FetchAnswer(FetchVerdict.THROTTLED, retry_after=_retry_after(answer.headers, usual))
        return FetchAnswer(_by_status(answer.status))


class MetaLeadAds:
    """A lead of a form on Facebook or Instagram, by the Graph API. Kept for ninety days."""

    base_url = "https://graph.facebook.com"
    kept: timedelta | None = timedelta(days=90)

    # Meta's own codes, in a body whose status is mostly 400: what the token may not, and what is too much.
    _TOKEN = frozenset({3, 10, 102, 104, 190, *range(200, 300)})
    _TOO_MUCH = frozenset({4, 17, 32, 341, 613, *range(80_000, 80_015)})
    _NO_SUCH_OBJECT = (100, 33)  # "does not exist, cannot be loaded due to missing permissions, or …"

    def path(self, reference: str, settings: SourceSettings, also: Sequence[str] = ()) -> str:
        return f"/{quote(reference, safe='')}?fields={','.join(LEAD_FIELDS)}"

    def read(self, answer: HttpAnswer) -> FetchAnswer:
        body = answer.body if isinstance(answer.body, dict) else {}
        if answer.status == 200 and isinstance(body.get("field_data"), list):
            return FetchAnswer(FetchVerdict.FETCHED, body)
        error = body.get("error")
        error = error if isinstance(error, dict) else {}
        code = error.get("code")
        if answer.status == 429 or code in self._TOO_MUCH:
            return FetchAnswer(FetchVerdict.THROTTLED, retry_after=_retry_after(answer.headers, 60.0))
        if code in self._TOKEN:
            return FetchAnswer(FetchVerdict.REFUSED)
        if (code, error.get("error_subcode")) == self._NO_SUCH_OBJECT:
            return FetchAnswer(FetchVerdict.ABSENT)
        return FetchAnswer(_by_status(answer.status))


VENDORS: Mapping[str, Vendor] = {"hubspot": HubSpotContacts(), "meta": MetaLeadAds()}


class LeadFetcher:
    """Asks one source's vendor. Safe to share between threads; close it.

    ``gate`` is the way out to an account whose quota is counted: requests wait there for their turn.
    """

    def __init__(
        self,
        vendor: Vendor,
        settings: SourceSettings,
        *,
        token: SecretStr,
        clock: Clock,
        gate: Gate | None = None,
        also: Sequence[str] = (),
    ) -> None:
        self._vendor = vendor
        self._settings = settings
        self._clock = clock
        self._gate = gate
        self._also = tuple(also)
        base_url = (settings.api_url or vendor.base_url).rstrip("/")
        self._transport = Transport(
            base_url,
            credentials=StaticKey(token, base_url=base_url),
            timeout_seconds=TIMEOUT_SECONDS,
            connections=CONNECTIONS,
        )

    def fetch(self, reference: str) -> FetchAnswer:
        """Ask for one lead. What a network or a vendor can do comes back as a verdict."""
        if self._gate is None:
            return self._ask(reference)
        try:
            entry = self._gate.enter()
        except AccountParked as parked:
            wait = (parked.until - self._clock.now()).total_seconds()
            return FetchAnswer(FetchVerdict.THROTTLED, retry_after=max(wait, 1.0))
        pause = None
        try:
            answer = self._ask(reference)
            pause = answer.retry_after if answer.verdict is FetchVerdict.THROTTLED else None
        finally:  # it may have left, and must not count as under way whatever became of it
            self._gate.answered(entry, pause_seconds=pause)
        return answer

    def _ask(self, reference: str) -> FetchAnswer:
        answer = self._transport.send("GET", self._vendor.path(reference, self._settings, self._also))
        if isinstance(answer, NetworkFailure):
            return FetchAnswer(FetchVerdict.UNREACHABLE)
        return self._vendor.read(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._transport.close()


def _by_status(status: int) -> FetchVerdict:
    if status in (404, 410):
        return FetchVerdict.GONE
    return FetchVerdict.REFUSED if status in (401, 403) else FetchVerdict.FAILED


def _retry_after(headers: Mapping[str, str], usual: float) -> float:
    try:
        asked = float(headers.get("retry-after", ""))
    except ValueError:
        return usual
    return min(asked, _LONGEST_PAUSE) if asked > 0 else usual  # false for NaN as well
