"""Records that go in one request, for every destination: sent whole, and halved where the whole is refused.

Add what does not depend on a vendor. Keep out: how a request is made and how its answer is read, which a destination
hands in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from leads_pipeline.crm.port import (
    Courier,
    CrmRecord,
    CrmRequest,
    CrmResponse,
    NetworkFailure,
    RecordVerdict,
    Verdict,
)
from leads_pipeline.errors import AccountParked, Overtaken

# Not sent because the account was parked, or a neighbour showed that the whole destination refuses.
NOT_SENT = "NOT_SENT"
# Not sent because more is wanted of the record by now, or because it must not be sent any more.
OVERTAKEN = "OVERTAKEN"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that was refused, or got lost, as a whole. ``divisible``: a part of it might pass."""

    verdict: Verdict
    code: str | None
    divisible: bool = False
    retry_after: float | None = None
    explanation: str | None = field(default=None, repr=False)
    refused_properties: tuple[str, ...] = ()

    def of(self, record: CrmRecord) -> RecordVerdict:
        """This refusal as the verdict on one record."""
        return RecordVerdict(
            record.outbox_id,
            self.verdict,
            code=self.code,
            explanation=self.explanation,
            retry_after=self.retry_after,
            refused_properties=self.refused_properties,
        )


def unanswered(response: CrmResponse) -> Refusal | None:
    """Why there is no answer, for every vendor alike; ``None`` when there is one."""
    if response.no_credentials is not None:
        return Refusal(Verdict.AUTH, response.no_credentials.code, explanation=str(response.no_credentials))
    if response.status is not None:
        return None
    lost = response.failure is NetworkFailure.NO_ANSWER
    return Refusal(Verdict.AMBIGUOUS if lost else Verdict.TRANSIENT, str(response.failure).upper())


def in_parts(
    records: Sequence[CrmRecord],
    *,
    courier: Courier,
    build: Callable[[Sequence[CrmRecord]], CrmRequest],
    read: Callable[[Sequence[CrmRecord], CrmResponse], list[RecordVerdict]],
    refusal_of: Callable[[CrmResponse], Refusal | None],
    largest: int | None = None,
) -> list[RecordVerdict]:
    """Send ``records`` as one request, or as several of ``largest``.

    What is refused whole is halved until what is at fault stands alone.

    ``refusal_of`` says why an answer did nothing at all, or ``None`` when it speaks of each record; then ``read`` makes
    verdicts of it. A part that the vendor refused for credentials which have been renewed since is sent once more.
    """
    verdicts: list[RecordVerdict] = []
    size = largest or len(records) or 1
    parts = [list(records[first : first + size]) for first in range(0, len(records), size)][::-1]
    renewed = False
    while parts:
        part = parts.pop()
        try:
            response = courier(build(part).about(part))
        except Overtaken as overtaken:
            out = [record for record in part if record.outbox_id in overtaken.outbox_ids]
            verdicts += _each([out], Refusal(Verdict.THROTTLED, OVERTAKEN))
            if left := [record for record in part if record not in out]:
                parts.append(left)
            continue
        except AccountParked:
            verdicts += _each([part, *parts], Refusal(Verdict.THROTTLED, NOT_SENT))
            break
        if response.credentials_renewed and not renewed:
            renewed = True
            parts.append(part)
            continue
        refusal = refusal_of(response)
        if refusal is None:
            verdicts += read(part, response)
        elif refusal.divisible and len(part) > 1:
            middle = len(part) // 2
            parts += [part[middle:], part[:middle]]
        else:
            verdicts += _each([part], refusal)
            if refusal.verdict is Verdict.AUTH:
                verdicts += _each(parts, refusal)
                break
    return verdicts


def renewing(courier: Courier) -> Courier:
    """The same courier; what is refused for credentials that have been renewed since is sent once more."""

    def ask(request: CrmRequest) -> CrmResponse:
        response = courier(request)
        return courier(request) if response.credentials_renewed else response

    return ask


def unsupported(records: Sequence[CrmRecord], *, vendor: str, advice: str) -> list[RecordVerdict]:
    """The verdict on records that ask for an operation which the vendor's API does not have."""
    operation = records[0].operation
    refusal = Refusal(
        Verdict.INVALID, "OPERATION_NOT_SUPPORTED", explanation=f"{vendor} cannot {operation} a contact: {advice}"
    )
    return _each([records], refusal)


def _each(parts: Sequence[Sequence[CrmRecord]], refusal: Refusal) -> list[RecordVerdict]:
    return [refusal.of(record) for part in parts for record in part]
