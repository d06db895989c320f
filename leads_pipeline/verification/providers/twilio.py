"""Twilio Lookup v2: the line type of one phone number at a time.

Source: twilio.com/docs/lookup/v2-api (line type intelligence, formatting and validation) and the pages of the errors
20429, 60601, 60606, 60607, 60610, 60616 and 60626, as of 2026. ``valid`` speaks of the number's form only; that it is
in use follows from a known line type. 429 is never processed. Canadian numbers need an approval (60601). ``account`` in
the settings is the account SID (or the SID of an API key), ``key`` the auth token (or that key's secret). Not
documented: a rate for this package (10 a second is ours), and whether an invalid number, or one without coverage, is
charged; here it counts as paid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from leads_pipeline.config import WindowLimit
from leads_pipeline.domain.verification import LookupKind, LookupVerdict, Standing
from leads_pipeline.outbound.transport import HttpAnswer
from leads_pipeline.verification.port import HttpRequest, Outcome, ProviderAnswer, Quirks
from leads_pipeline.verification.providers.reading import (
    OTHER_SUBJECT,
    UNREADABLE,
    answered_one,
    codes,
    mapping,
    only,
    refusal,
    text,
)

_LINE_TYPES = {
    "fixedvoip": ("fixed_voip", Standing.VALID, "number_exists"),
    "landline": ("landline", Standing.VALID, "number_exists"),
    "mobile": ("mobile", Standing.VALID, "number_exists"),
    "nonfixedvoip": ("non_fixed_voip", Standing.RISKY, "voip"),
    "pager": ("pager", Standing.RISKY, "not_personal"),
    "personal": ("personal", Standing.VALID, "number_exists"),
    "premium": ("premium", Standing.RISKY, "not_personal"),
    "sharedcost": ("shared_cost", Standing.RISKY, "not_personal"),
    "tollfree": ("toll_free", Standing.RISKY, "not_personal"),
    "uan": ("uan", Standing.RISKY, "not_personal"),
    "voicemail": ("voicemail", Standing.RISKY, "not_personal"),
}
_NOT_ASSIGNED = "invalid_but_possible"  # of the right length, in no range that is given out
_NO_COVERAGE = frozenset({"60600", "60601", "60607", "60610"})
_PACKAGE_NOT_ENABLED = "60606"
_NO_SUCH_NUMBER = "20404"
_TOO_FAST = frozenset({"60616", "60626"})


class Twilio:
    """``Provider`` of Twilio's line type intelligence."""

    quirks = Quirks(
        vendor="twilio",
        kind=LookupKind.PHONE,
        base_url="https://lookups.twilio.com",
        batch_size=1,
        windows=(WindowLimit(requests=10, seconds=1),),
        key_in="basic",
        in_flight=10,
        block_seconds=5,
    )

    def request(self, subjects: Sequence[str]) -> HttpRequest:
        """One look-up."""
        path = f"/v2/PhoneNumbers/{quote(only(subjects), safe='')}"
        return HttpRequest("GET", path, query={"Fields": "line_type_intelligence"})

    def poll(self, reference: str, subjects: Sequence[str]) -> HttpRequest:
        """It answers at once, always."""
        raise NotImplementedError

    def read(self, answer: HttpAnswer, subjects: Sequence[str]) -> ProviderAnswer:
        """The verdict on the one number."""
        body = mapping(answer.body)
        if (refused := refusal(answer, self.quirks)) is not None:
            code = _error(body.get("code"))
            if answer.status == 404 and code == _NO_SUCH_NUMBER:
                # Only Twilio itself says so: the address is right, and the number cannot be asked for.
                return ProviderAnswer(Outcome.REJECTED, code=code)
            return replace(refused, code=code or refused.code)
        valid = body.get("valid")
        if not subjects or not isinstance(valid, bool):
            return UNREADABLE
        echo = _digits(body.get("phone_number"))
        if echo and echo != _digits(subjects[0]):
            return OTHER_SUBJECT
        line = mapping(body.get("line_type_intelligence"))
        error = _error(line.get("error_code"))
        if valid and error == _PACKAGE_NOT_ENABLED:
            return ProviderAnswer(Outcome.REFUSED, code=error)
        if valid and error in _TOO_FAST:
            return ProviderAnswer(Outcome.THROTTLED, code=error)
        return answered_one(subjects[0], _verdict(body, line) if valid else _invalid(body))


def _verdict(body: Mapping[str, Any], line: Mapping[str, Any]) -> LookupVerdict:
    country = codes(country=body.get("country_code"))
    if (error := _error(line.get("error_code"))) is not None:
        reason = "no_coverage" if error in _NO_COVERAGE else "provider_failed"
        return LookupVerdict(Standing.UNKNOWN, (reason,), details=country | {"error": error})
    known = _LINE_TYPES.get(text(line.get("type")))
    if known is None:
        return LookupVerdict(Standing.UNKNOWN, ("other",), details=country)
    line_type, standing, reason = known
    return LookupVerdict(standing, (reason,), details=country | {"line_type": line_type})


def _invalid(body: Mapping[str, Any]) -> LookupVerdict:
    listed = body.get("validation_errors")
    first = listed[0] if isinstance(listed, list) and listed else None
    reason = "not_assigned" if text(first) == _NOT_ASSIGNED else "bad_syntax"
    return LookupVerdict(Standing.INVALID, (reason,), details=codes(sub_status=first))


def _digits(value: Any) -> str:
    return "".join(filter(str.isdigit, value)) if isinstance(value, str) else ""


def _error(value: Any) -> str | None:
    """One of Twilio's error codes, which have five digits; some answers have them as text."""
    code = str(value) if isinstance(value, int) and 0 < value < 100_000 else value
    return code if isinstance(code, str) and len(code) == 5 and code.isascii() and code.isdigit() else None
