"""Twilio Lookup: GET /v2/PhoneNumbers/{number}?Fields=line_type_intelligence, with basic authentication.

A number's last two digits decide: 00-69 mobile, 70-84 landline, 85-88 fixed VoIP, 89-91 VoIP that moves, 92 toll-free,
93 premium, 94 a type that nobody knows, 95-99 not assigned. A number that cannot be one is not valid, either; that is
said in a 200. Canadian numbers need an approval that this account has not (60601). Who asks for the line type is
billed, whatever is found.
"""

import base64
import binascii
from typing import Any

import phonenumbers

from leads_pipeline.sandbox.answers import Answer
from leads_pipeline.verification.sandbox.limits import Limit, Refusal
from leads_pipeline.verification.sandbox.options import ProviderOptions
from leads_pipeline.verification.sandbox.vendor import Call, Endpoint

_LINE_TYPES = (
    (69, "mobile"), (84, "landline"), (88, "fixedVoip"), (91, "nonFixedVoip"), (92, "tollFree"), (93, "premium"),
    (94, "unknown"),
)  # fmt: skip
_NOT_ASSIGNED_FROM = 95
_LINE_TYPE = "line_type_intelligence"
_NEEDS_APPROVAL = 60601
# The packages that a request may name; those that are not asked for, or not played, are null.
_PACKAGES = (
    "caller_name", "sim_swap", "call_forwarding", "line_status", _LINE_TYPE, "identity_match", "reassigned_number",
    "sms_pumping_risk", "phone_number_quality_score", "pre_fill",
)  # fmt: skip
_TOO_LONG_OR_SHORT = {
    phonenumbers.ValidationResult.TOO_SHORT: "TOO_SHORT",
    phonenumbers.ValidationResult.TOO_LONG: "TOO_LONG",
    phonenumbers.ValidationResult.INVALID_COUNTRY_CODE: "INVALID_COUNTRY_CODE",
    phonenumbers.ValidationResult.INVALID_LENGTH: "INVALID_LENGTH",
}


class Twilio:
    """One account."""

    key_needed = True
    batch_size = 1

    def __init__(self, _options: ProviderOptions) -> None:
        self.limits = {"lookup": Limit()}
        self.endpoints = (Endpoint("PhoneNumbers", ("GET",), "/v2/PhoneNumbers/{number}", self.look_up, "lookup"),)

    def look_up(self, call: Call) -> Answer:
        """One number, in E.164."""
        given = call.path["number"]
        wanted = [name for name in call.given("Fields").split(",") if name]
        if unknown := [name for name in wanted if name not in (*_PACKAGES, "validation")]:
            return _failure(400, 60617, f"Parameter 'Fields' is invalid: {unknown[0]}")
        try:
            number = phonenumbers.parse(given, None if given.startswith("+") else "US")
        except phonenumbers.NumberParseException:
            return _failure(404, 20404, f"The requested resource /PhoneNumbers/{given} was not found")
        number_text = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        errors = _errors_of(number)
        region = phonenumbers.region_code_for_number(number)
        billed = _LINE_TYPE in wanted
        if billed:
            call.account.ledger.demand(1)
        line_type = _line_type(number_text, region) if billed and not errors else None
        verdict = line_type["type"] or "unknown" if line_type else "invalid" if errors else "valid"
        call.account.ledger.look_up(number_text, verdict, billed=billed)
        national = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.NATIONAL)
        return Answer(
            200,
            {
                "calling_country_code": str(number.country_code),
                "country_code": region,
                "phone_number": number_text,
                "national_format": national,
                "valid": not errors,
                "validation_errors": errors,
                **dict.fromkeys(_PACKAGES),
                _LINE_TYPE: line_type,
                "url": f"https://lookups.twilio.com/v2/PhoneNumbers/{number_text}",
            },
        )

    def key_of(self, call: Call) -> str:
        """The password, if the user name is the account's (or no account was named)."""
        scheme, _, encoded = call.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return ""
        try:
            user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return ""
        return password if user and call.account.options.account in (None, user) else ""

    def unauthorized(self, call: Call) -> Answer:
        return _failure(401, 20003, "Authenticate")

    def out_of_credit(self, call: Call) -> Answer:
        return _failure(403, 20005, "Account is not active")

    def throttled(self, call: Call, refusal: Refusal) -> Answer:
        return _failure(429, 20429, "Too Many Requests")

    def broken(self, status: int) -> Answer:
        return _failure(status, 20500, "An internal server error has occurred")

    def no_such_address(self, call: Call) -> Answer:
        return _failure(404, 20404, "The requested resource was not found")


def _errors_of(number: phonenumbers.PhoneNumber) -> list[str]:
    possible = phonenumbers.is_possible_number_with_reason(number)
    if possible in _TOO_LONG_OR_SHORT:
        return [_TOO_LONG_OR_SHORT[possible]]
    if not phonenumbers.is_valid_number(number) or (number.national_number or 0) % 100 >= _NOT_ASSIGNED_FROM:
        return ["INVALID_BUT_POSSIBLE"]
    return []


def _line_type(number: str, region: str | None) -> dict[str, Any]:
    if region == "CA":
        return {
            "error_code": _NEEDS_APPROVAL,
            "mobile_country_code": None,
            "mobile_network_code": None,
            "carrier_name": None,
            "type": None,
        }
    kind = next(name for end, name in _LINE_TYPES if int(number[-2:]) <= end)
    is_mobile = kind == "mobile"
    return {
        "error_code": None,
        "mobile_country_code": "310" if is_mobile else None,
        "mobile_network_code": "456" if is_mobile else None,
        "carrier_name": None if kind == "unknown" else "Sandbox Telecom",
        "type": kind,
    }


def _failure(status: int, code: int, message: str) -> Answer:
    body = {
        "code": code,
        "message": message,
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
    return Answer(status, body)
