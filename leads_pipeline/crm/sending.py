"""A request of the port through a vendor's transport, for every destination that speaks HTTP.

Keep out: what a status means; each vendor reads its own answers.
"""

from collections.abc import Callable

from leads_pipeline.crm.port import CrmRequest, CrmResponse
from leads_pipeline.errors import CredentialsRefused
from leads_pipeline.outbound.transport import HttpAnswer, NetworkFailure, Transport


def send(transport: Transport, request: CrmRequest, *, read: Callable[[HttpAnswer], CrmResponse]) -> CrmResponse:
    """What came of ``request``; ``read`` says what an answer's status and headers mean. Never raises."""
    try:
        answer = transport.send(
            request.method,
            request.path,
            query=request.query,
            body=request.body,
            content=request.content,
            content_type=request.content_type,
            headers=request.headers,
            answer_bytes=request.answer_bytes,
        )
    except CredentialsRefused as refused:
        return CrmResponse(status=None, no_credentials=refused)
    if isinstance(answer, NetworkFailure):
        return CrmResponse(status=None, failure=answer)
    return read(answer)
