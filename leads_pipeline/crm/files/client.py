"""A folder of files: one for each batch, which appears whole, and once however often the batch is sent.

Nothing is ever appended to or changed in a file but one thing: who is erased is taken out of the files that are still
there. Copies that readers made are out of our reach; they get a line that says whom to erase.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from leads_pipeline.config import FileSettings
from leads_pipeline.crm.files.folder import Folder, NotWritten
from leads_pipeline.crm.files.lines import Format, format_of, name_of, text_of, without
from leads_pipeline.crm.parts import Refusal, in_parts, unanswered
from leads_pipeline.crm.port import Courier, CrmRecord, CrmRequest, CrmResponse, RecordVerdict, Traits, Verdict
from leads_pipeline.domain.destination_schema import DestinationSchema
from leads_pipeline.domain.stage import Operation
from leads_pipeline.errors import CrmError
from leads_pipeline.outbound.access_tokens import TokenStore

# What the books call the folder.
_ENDPOINT = "folder"
_DESCRIBE = "describe"


class Files:
    """One folder, as ``CrmClient``."""

    def __init__(self, folder: Folder, *, format_: Format, properties: Sequence[str], batch_size: int) -> None:
        self._folder = folder
        self._format: Format = format_
        self._properties = tuple(properties)
        self._traits = Traits(
            max_batch=batch_size, partial_updates=False, operations=frozenset(Operation), withdrawals=True
        )

    @property
    def traits(self) -> Traits:
        """See ``CrmClient.traits``."""
        return self._traits

    def close(self) -> None:
        """There is nothing open."""

    def describe(self, *, courier: Courier) -> DestinationSchema:
        """Files take whatever is mapped; whether the folder takes files is tried."""
        response = courier(CrmRequest(purpose=_DESCRIBE, method="FILE", path=_ENDPOINT, records=0))
        refusal = _refusal_of(response)
        if refusal is not None:
            raise CrmError(f"the folder did not take a file ({refusal.code}): {refusal.explanation}")
        return DestinationSchema({}, is_open=True)

    def send(self, request: CrmRequest) -> CrmResponse:
        """Write one file. Never raises for what a disk can do."""
        body: Mapping[str, Any] = request.body or {}
        try:
            if request.purpose == _DESCRIBE:
                self._folder.check()
                return CrmResponse(status=200)
            if request.purpose == Operation.ERASE:
                erased = frozenset(body["erased"])
                self._folder.rewrite(lambda name, text: without(text, erased, format_=format_of(name)))
            assert request.content is not None  # of whatever has records
            self._folder.put(body["name"], request.content)
        except NotWritten as failure:
            return CrmResponse(status=failure.status, body={"failure": failure})
        return CrmResponse(status=200)

    def deliver(self, records: Sequence[CrmRecord], *, courier: Courier) -> list[RecordVerdict]:
        """Write the records to a file; see ``CrmClient.deliver``."""
        return in_parts(
            records,
            courier=courier,
            build=self._request,
            read=lambda part, _response: [RecordVerdict(record.outbox_id, Verdict.DELIVERED) for record in part],
            refusal_of=_refusal_of,
            largest=self._traits.max_batch,
        )

    def _request(self, part: Sequence[CrmRecord]) -> CrmRequest:
        text = text_of(part, format_=self._format, properties=self._properties)
        body: dict[str, Any] = {"name": name_of(part, text, format_=self._format)}
        if part[0].operation is Operation.ERASE:
            body["erased"] = [str(record.contact_id) for record in part]
        return CrmRequest(
            purpose=str(part[0].operation),
            method="FILE",
            path=_ENDPOINT,
            records=len(part),
            body=body,
            content=text,
        )


def _refusal_of(response: CrmResponse) -> Refusal | None:
    lost = unanswered(response)
    if lost is not None or response.status == 200:
        return lost
    failure: NotWritten = response.body["failure"]
    return Refusal(failure.verdict, failure.code, explanation=failure.explanation)


def build(settings: FileSettings, _tokens: TokenStore) -> Files:
    """The client of one folder."""
    return Files(
        Folder(settings.directory),
        format_=settings.format,
        properties=settings.properties(),
        batch_size=settings.batch_size,
    )
