"""What people and machines read about the door rather than post to it. On Starlette: rarely asked for, easily added."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from leads_pipeline.capture.call import Call, Receive, Scope, Send, refusal, send_answer
from leads_pipeline.capture.door import Door
from leads_pipeline.capture.refusals import Code, Refused

_CODES = {404: Code.NOT_FOUND, 405: Code.METHOD_NOT_ALLOWED}


class Pages:
    """The pages as an application inside the door's; what is no page is answered in the door's error shape."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._app = Starlette(routes=[Route("/healthz", _healthz, methods=["GET"])])

    async def __call__(self, scope: Scope, receive: Receive, send: Send, call: Call) -> None:
        scope["app"] = self._app  # without it Starlette's router answers by itself and in its own shape
        try:
            await self._app.router(scope, receive, send)
        except HTTPException as error:
            code = _CODES.get(error.status_code, Code.INTERNAL_ERROR)
            answer = refusal(Refused(code, headers=tuple((error.headers or {}).items())), call)
            await send_answer(answer, send, with_body=call.method != "HEAD")


async def _healthz(_request: Request) -> Response:
    return Response(b'{"status":"alive"}', media_type="application/json")
