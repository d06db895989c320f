"""What the adapters share: statuses that mean the same everywhere, and reading of bodies in which nothing is relied on.

Pure. Nothing here raises, whatever a vendor sends; what is not understood is ``LOST``, because it may have been paid.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from leads_pipeline.domain.verification import LookupVerdict, Standing
from leads_pipeline.outbound.transport import HttpAnswer
from leads_pipeline.verification.mx import dns_name
from leads_pipeline.verification.port import Outcome, ProviderAnswer, Quirks

UNREADABLE = ProviderAnswer(Outcome.LOST, code="UNREADABLE")
OTHER_SUBJECT = ProviderAnswer(Outcome.LOST, code="OTHER_SUBJECT")

_MAX_WAIT = 86_400.0
_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")


def refusal(answer: HttpAnswer, quirks: Quirks) -> ProviderAnswer | None:
    """Why the request as a whole brought nothing, by its status; ``None`` for a 2xx.

    A redirect, 404 or 405 is about the address that was configured, not about what was looked up.
    """
    status = answer.status
    if 200 <= status < 300:
        return None
    code = f"HTTP_{status}"
    wait = seconds(answer.headers.get("retry-after"))
    if status in quirks.maybe_paid:
        return ProviderAnswer(Outcome.LOST, code=code)
    if status >= 500 or status == 408:
        return ProviderAnswer(Outcome.BROKEN, retry_after=wait, code=code)
    if status == 429:
        return ProviderAnswer(Outcome.THROTTLED, retry_after=wait, code=code)
    if status == 402:
        return ProviderAnswer(Outcome.OUT_OF_CREDIT, code=code)
    if status < 400 or status in (401, 403, 404, 405, 407, 410):
        return ProviderAnswer(Outcome.REFUSED, code=code)
    return ProviderAnswer(Outcome.REJECTED, code=code)


def answered_one(subject: str, verdict: LookupVerdict, *, billed: bool = True) -> ProviderAnswer:
    """The answer of a vendor that is asked for one at a time."""
    return ProviderAnswer(Outcome.ANSWERED, {subject: verdict}, billed=int(billed))


def only(subjects: Sequence[str]) -> str:
    """The one subject of a vendor that is asked for one at a time.

    Raises:
        ValueError: there is none, or more than one.
    """
    if len(subjects) != 1:
        raise ValueError(f"this vendor looks up one at a time, not {len(subjects)}")
    return subjects[0]


def is_about(echo: Any, subject: str) -> bool:
    """Whether an answer that names its subject names this one; vendors change the case, some name none."""
    return not isinstance(echo, str) or _spelling(echo) == _spelling(subject)


def _spelling(subject: str) -> str:
    """In which spellings of one subject are equal: vendors change the case, and write domains as A-labels."""
    local, at, domain = subject.strip().lower().rpartition("@")
    return f"{local}{at}{dns_name(domain) or domain}" if at else domain


class Matching:
    """Collects verdicts of a batch by subject as it was asked; what was not asked is ignored.

    Of several verdicts about one subject the first that is not unknown counts.
    """

    def __init__(self, subjects: Sequence[str]) -> None:
        self._asked: dict[str, list[str]] = {}
        for subject in subjects:
            self._asked.setdefault(_spelling(subject), []).append(subject)
        self._billed: set[str] = set()
        self.verdicts: dict[str, LookupVerdict] = {}

    def add(self, echo: Any, verdict: LookupVerdict, *, billed: bool) -> None:
        """Take a verdict for what the answer calls ``echo``."""
        for subject in self._asked.get(_spelling(echo), ()) if isinstance(echo, str) else ():
            known = self.verdicts.get(subject)
            if known is None or known.standing is Standing.UNKNOWN:
                self.verdicts[subject] = verdict
            if billed:
                self._billed.add(subject)

    @property
    def billed(self) -> int:
        """How many subjects are billed; one that comes twice is billed once."""
        return len(self._billed)


def mapping(value: Any) -> Mapping[str, Any]:
    """A JSON object, or an empty one."""
    return value if isinstance(value, dict) else {}


def objects(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a JSON array."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def text(value: Any) -> str:
    """A string in lower case, or an empty one. Only to be compared: it may quote the lead."""
    return value.strip().lower() if isinstance(value, str) else ""


def is_true(value: Any) -> bool:
    """Some vendors declare their booleans as strings."""
    return value is True or text(value) == "true"


def is_false(value: Any) -> bool:
    return value is False or text(value) == "false"


def code_of(value: Any) -> str | None:
    """A vendor's own word if it is one: never a sentence or an address."""
    return value if isinstance(value, str) and _CODE.fullmatch(value) else None


def codes(**values: Any) -> dict[str, str]:
    """Details of a verdict: those of ``values`` that are codes."""
    return {name: code for name, value in values.items() if (code := code_of(value)) is not None}


def flags_of(**values: bool) -> tuple[str, ...]:
    """The names of those that hold."""
    return tuple(name for name, holds in values.items() if holds)


def first_reason(candidates: Iterable[tuple[bool, str]]) -> tuple[str]:
    """The first reason whose condition holds, else ``other``."""
    return (next((reason for holds, reason in candidates if holds), "other"),)


def seconds(value: str | None) -> float | None:
    """What a Retry-After says; ``None`` for a date, which no vendor here sends."""
    try:
        wait = float(value) if value is not None else math.nan
    except ValueError:
        return None
    return min(wait, _MAX_WAIT) if wait >= 0 else None
