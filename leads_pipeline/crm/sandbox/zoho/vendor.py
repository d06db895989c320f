"""Zoho CRM, as the sandbox's frame plays it: its doors, its headers and its operations."""

from collections.abc import Callable
from functools import partial

from leads_pipeline.crm.sandbox.limits import API, AccountLimits, Admission
from leads_pipeline.crm.sandbox.vendor import (
    Charge,
    Incoming,
    PlayedEndpoint,
    Shared,
    ShownContact,
    StoredContact,
    Tally,
)
from leads_pipeline.crm.sandbox.zoho import oauth, operations
from leads_pipeline.crm.sandbox.zoho.answers import CREDITS_LEFT, failure, listed, too_many_requests
from leads_pipeline.crm.sandbox.zoho.fields import EMAIL, built_in
from leads_pipeline.crm.sandbox.zoho.operations import Call, Operation, Refused, document_of
from leads_pipeline.crm.sandbox.zoho.options import ZohoOptions
from leads_pipeline.crm.sandbox.zoho.store import RecordStore
from leads_pipeline.sandbox.answers import Answer
from leads_pipeline.sandbox.faults import FaultKind
from leads_pipeline.telemetry import get_logger

_logger = get_logger(__name__)

FAULTS = (
    FaultKind.SLOW,
    FaultKind.REFUSED_400,
    FaultKind.HTTP_500,
    FaultKind.HTTP_502,
    FaultKind.HTTP_503,
    FaultKind.HTTP_429,
    FaultKind.QUOTA_SPENT,
    FaultKind.AUTH,
    FaultKind.FORBIDDEN_403,
    FaultKind.LOCKED_423,
    FaultKind.TIMEOUT,
    FaultKind.RESET_CONNECTION,
    FaultKind.SILENT_200,
    FaultKind.WRITTEN_THEN_500,
    FaultKind.WRITTEN_THEN_RESET,
    FaultKind.WRITTEN_THEN_TIMEOUT,
    FaultKind.PER_RECORD_ERROR,
    FaultKind.UNREPORTED,
)
_FAILURES: dict[FaultKind, tuple[int, str, str]] = {
    FaultKind.REFUSED_400: (400, "INVALID_DATA", "refused by a fault rule of the sandbox"),
    FaultKind.HTTP_500: (500, "INTERNAL_ERROR", "Internal Server Error"),
    FaultKind.HTTP_502: (502, "BAD_GATEWAY", "bad gateway"),
    FaultKind.HTTP_503: (503, "SERVICE_UNAVAILABLE", "service unavailable"),
    FaultKind.AUTH: (401, "INVALID_TOKEN", "invalid oauth token"),
    FaultKind.FORBIDDEN_403: (403, "NO_PERMISSION", "permission denied"),
}

_ROOT = "/crm/{version}"
_MODULE = f"{_ROOT}/{{module}}"
_RECORD = f"{_MODULE}/{{id}}"
_BIN = f"{_ROOT}/settings/recycle_bin"
# Name, method, paths, operation; whether it is charged by the records that it writes. The first path that fits answers.
_ENDPOINTS: tuple[tuple[str, str, tuple[str, ...], Operation, bool], ...] = (
    ("settings/fields", "GET", (f"{_ROOT}/settings/fields",), operations.settings_fields, False),
    ("recycle_bin/delete", "DELETE", (_BIN, f"{_BIN}/{{id}}"), operations.empty_bin, False),
    ("upsert", "POST", (f"{_MODULE}/upsert",), operations.upsert, True),
    ("insert", "POST", (_MODULE,), operations.insert, True),
    ("update", "PUT", (_MODULE, _RECORD), operations.update, True),
    ("read", "GET", (_MODULE, _RECORD), operations.read, False),
    ("delete", "DELETE", (_MODULE, _RECORD), operations.delete, False),
)
_RECORDS_PER_CREDIT = 10
MANY = "writes of more than ten records"


class PlayedZoho:
    """One organisation, as ``PlayedVendor``."""

    def __init__(self, options: ZohoOptions) -> None:
        self._options = options
        self._store = RecordStore(options.store, key_property=options.key_property)
        self._fields = built_in(options.key_property, options.custom_properties, unique_email=options.unique_email)
        self._accounts = oauth.AccountsServer(options)
        self.faults = FAULTS
        self.endpoints = (
            PlayedEndpoint("oauth/token", "POST", (oauth.PATH,), self._accounts.give, limited_as=None),
            *(self._played(*endpoint) for endpoint in _ENDPOINTS),
        )
        self.elsewhere = self._played("elsewhere", "GET", ("/{path:path}",), _no_such_address, by_records=False)
        self.tally: Callable[[], Tally] = self._store.tally
        self.writes = self._store.writes
        self.close = self._store.close

    def clear(self) -> None:
        self._store.clear()
        self._accounts.clear()

    def limits(self) -> AccountLimits:
        """Credits over 24 hours, and requests at once."""
        stated = {API: self._options.concurrency, MANY: self._options.many_records_at_once}
        at_once = {name: most for name, most in stated.items() if most is not None}
        return AccountLimits({API: self._options.windows}, daily=None, time_zone="UTC", at_once=at_once)

    def token_of(self, incoming: Incoming) -> str | None:
        """An access token. A refresh token is none."""
        scheme, _, token = incoming.headers.get("authorization", "").partition(" ")
        return token.strip() if scheme == "Zoho-oauthtoken" and token.startswith("given-") else None

    def unauthorized(self, incoming: Incoming) -> Answer:
        if not incoming.headers.get("authorization"):
            return failure(401, "AUTHENTICATION_FAILURE", "Authentication failed")
        return failure(401, "INVALID_TOKEN", "invalid oauth token")

    def over_limit(self, incoming: Incoming, admission: Admission) -> Answer:
        return too_many_requests()

    def fault(self, kind: FaultKind, incoming: Incoming, admission: Admission) -> Answer:
        if kind is FaultKind.HTTP_429:
            return too_many_requests()
        if kind is FaultKind.QUOTA_SPENT:
            return too_many_requests().with_headers({CREDITS_LEFT: "0"})
        if kind is FaultKind.SILENT_200:
            return Answer(200, {"data": []})
        if kind is FaultKind.LOCKED_423:  # Zoho locks records, not requests
            locked = {"code": "RECORD_LOCKED", "details": {}, "message": "record is locked", "status": "error"}
            return listed([locked] * max(1, _records(incoming)), status=200, partly=self._options.partial_status)
        return failure(*_FAILURES.get(kind, _FAILURES[FaultKind.HTTP_500]))

    def headers(self, incoming: Incoming, admission: Admission | None) -> dict[str, str]:
        """What is left of the credits is told only once half of them is used."""
        if admission is None or admission.tightest is None or self._options.credits is None:
            return {}
        left = admission.tightest.remaining
        return {CREDITS_LEFT: str(left)} if left * 2 <= self._options.credits else {}

    def newest(self, limit: int) -> list[ShownContact]:
        return [
            ShownContact(
                crm_record_id=record.id,
                name=" ".join(
                    str(part) for name in ("First_Name", "Last_Name") if (part := record.properties.get(name))
                ),
                email=_text(record.properties.get(EMAIL)),
                phone=_text(record.properties.get("Phone")),
                company=_text(record.properties.get("Company")),
                written_at=record.modified_at,
                archived=record.deleted_at is not None,
            )
            for record in self._store.newest(limit)
        ]

    def page(self, *, after: int, limit: int, archived: bool) -> list[StoredContact]:
        found = self._store.page(after=after, limit=limit, deleted=archived)
        return [
            StoredContact(int(item.id), item.id, {name: _text(value) or "" for name, value in item.properties.items()})
            for item in found
        ]

    def _played(
        self, name: str, method: str, paths: tuple[str, ...], operation: Operation, by_records: bool
    ) -> PlayedEndpoint:
        return PlayedEndpoint(
            name, method, paths, partial(self._operate, name, operation), charge=_charge if by_records else _one_credit
        )

    def _operate(self, name: str, operation: Operation, shared: Shared, incoming: Incoming) -> Answer:
        if incoming.body is None:
            return failure(413, "REQUEST_BODY_TOO_LARGE", "the body is too large")
        call = Call(self._options, self._store, self._fields, shared, incoming, name)
        try:
            return operation(call)
        except Refused as refused:
            return refused.answer
        except Exception:
            _logger.exception("sandbox_operation_failed", endpoint=name)
            return failure(500, "INTERNAL_ERROR", "Internal Server Error")


def _charge(incoming: Incoming) -> Charge:
    records = _records(incoming)
    return Charge(cost=max(1, -(-records // _RECORDS_PER_CREDIT)), kind=MANY if records > _RECORDS_PER_CREDIT else None)


def _one_credit(_incoming: Incoming) -> Charge:
    return Charge()


def _records(incoming: Incoming) -> int:
    data = (document_of(incoming.body) or {}).get("data")
    return len(data) if isinstance(data, list) else 0


def _no_such_address(_call: Call) -> Answer:
    return failure(404, "INVALID_URL_PATTERN", "Please check if the URL trying to access is a correct one")


def _text(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return str(value).lower() if isinstance(value, bool) else str(value)
