"""What people and machines read about the door rather than post to it. On Starlette: rarely asked for, easily added."""

import json
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from leads_pipeline.capture.call import Call, Receive, Scope, Send, refusal, send_answer
from leads_pipeline.capture.cors import SECURITY_HEADERS
from leads_pipeline.capture.docs_page import docs_page
from leads_pipeline.capture.door import Door
from leads_pipeline.capture.example_page import example_page
from leads_pipeline.capture.openapi import openapi_document
from leads_pipeline.capture.refusals import Code, Refused
from leads_pipeline.capture.static_files import StaticFile, read_file

_CODES = {404: Code.NOT_FOUND, 405: Code.METHOD_NOT_ALLOWED}

# A page loads its own files, posts to its own door, and nothing else. No referrer policy stricter than this one: under
# "no-referrer" a form's post has the Origin "null", which no list of sites holds.
_PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
# Data for anybody: a document, or that the process lives. Tools on other sites may read it, such as API explorers.
_DATA_HEADERS = {
    **{name.decode(): value.decode() for name, value in SECURITY_HEADERS},
    "Access-Control-Allow-Origin": "*",
}
_FILES = {
    "/leads.js": ("leads.js", "text/javascript"),
    "/static/example.js": ("example.js", "text/javascript"),
    "/static/pages.css": ("pages.css", "text/css"),
    "/static/icon.svg": ("icon.svg", "image/svg+xml"),
}


class Pages:
    """The pages as an application inside the door's; what is no page is answered in the door's error shape."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._document = openapi_document(door.settings)
        self._document_text = json.dumps(self._document, ensure_ascii=False).encode()
        routes = [
            Route("/healthz", _healthz, methods=["GET"]),
            Route("/openapi.json", self._openapi, methods=["GET"]),
            Route("/docs", self._docs, methods=["GET"]),
        ]
        routes += [_file_route(path, read_file(name, media_type=kind)) for path, (name, kind) in _FILES.items()]
        if door.settings.capture.example_page:
            routes.append(Route("/example", self._example, methods=["GET"]))
        self._app = Starlette(routes=routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send, call: Call) -> None:
        scope["app"] = self._app  # without it Starlette's router answers by itself and in its own shape
        try:
            await self._app.router(scope, receive, send)
        except HTTPException as error:
            code = _CODES.get(error.status_code, Code.INTERNAL_ERROR)
            answer = refusal(Refused(code, headers=tuple((error.headers or {}).items())), call)
            await send_answer(answer, send, with_body=call.method != "HEAD")

    async def _openapi(self, _request: Request) -> Response:
        return Response(self._document_text, media_type="application/json", headers=_DATA_HEADERS)

    async def _docs(self, request: Request) -> Response:
        html = docs_page(self._document, base_url=str(request.base_url).rstrip("/"))
        return HTMLResponse(html, headers=_PAGE_HEADERS)

    async def _example(self, request: Request) -> Response:
        address = f"{request.base_url}example"
        html = await example_page(self._door, key=request.query_params.get("key", ""), address=address)
        return HTMLResponse(html, headers=_PAGE_HEADERS)


def _file_route(path: str, file: StaticFile) -> Route:
    async def answer(request: Request) -> Response:
        return file.answer(request)

    endpoint: Callable[[Request], Awaitable[Response]] = answer
    return Route(path, endpoint, methods=["GET"])


async def _healthz(_request: Request) -> Response:
    return Response(b'{"status":"alive"}', media_type="application/json", headers=_DATA_HEADERS)
