"""The page /docs: the OpenAPI document for people, with examples that can be pasted."""

from collections.abc import Iterable
from html import escape
from typing import Any

from leads_pipeline.capture.refusals import REFUSALS
from leads_pipeline.sources.registry import KINDS

_SECTIONS = {
    "post": "Post a lead",
    "page": "From a web page",
    "batch": "Many leads",
    "sources": "Forms and webhooks",
    "fields": "Fields of a lead",
    "refusals": "Refusals",
    "routes": "All addresses",
}


def docs_page(document: dict[str, Any], *, base_url: str) -> str:
    """The page as HTML. ``base_url`` is where its reader finds the door, without a slash at its end."""
    bodies = {
        "post": _post(document, base_url),
        "page": _web_page(base_url, has_example="/example" in document["paths"]),
        "batch": _batch(document, base_url),
        "sources": _sources(document, base_url),
        "fields": _fields(document),
        "refusals": _refusals(),
        "routes": _routes(document),
    }
    contents = "".join(f'<li><a href="#{name}">{escape(title)}</a></li>' for name, title in _SECTIONS.items())
    sections = "".join(
        f'<section id="{name}"><h2>{escape(title)}</h2>{bodies[name]}</section>' for name, title in _SECTIONS.items()
    )
    example = ' <a href="example">Example</a>' if "/example" in document["paths"] else ""
    info = document["info"]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<title>leads capture: how to post a lead</title>"
        '<link rel="icon" href="static/icon.svg" type="image/svg+xml"><link rel="stylesheet" href="static/pages.css">'
        '</head><body><header class="top"><a class="brand" href="docs">leads capture</a>'
        f'<nav aria-label="Pages"><a href="docs" aria-current="page">Docs</a>{example} '
        '<a href="openapi.json">OpenAPI</a></nav></header>'
        f'<div class="docs"><nav aria-label="On this page"><ul>{contents}</ul></nav><main>'
        f"<h1>How to post a lead</h1>{_paragraph(info['description'])}{sections}"
        f'<p class="hint">Version {escape(info["version"])}. Made from <a href="openapi.json">openapi.json</a>.</p>'
        "</main></div></body></html>"
    )


def _post(document: dict[str, Any], base_url: str) -> str:
    operation = document["paths"]["/v1/leads"]["post"]
    url = f"{base_url}/v1/leads"
    curl = f"""KEY=lp_…    # leads keys create --source website

curl -sS {url} \\
  -H "Authorization: Bearer $KEY" \\
  -H "Content-Type: application/json" \\
  -H "Idempotency-Key: form-7-submission-1234" \\
  -d '{{"email": "ada@example.org", "full_name": "Ada Lovelace",
       "consent": {{"granted": true, "channel": "email", "text_version": "2026-01"}}}}'"""
    script = f"""const answer = await fetch("{url}", {{
  method: "POST",
  headers: {{
    "X-API-Key": key,
    "Content-Type": "application/json",
    "Idempotency-Key": crypto.randomUUID(),  // the same one when it is sent again
  }},
  body: JSON.stringify({{ email: "ada@example.org", full_name: "Ada Lovelace" }}),
}});
const {{ lead_id }} = await answer.json();"""
    python = f"""import time, uuid, httpx

URL = "{url}"

def post(lead: dict, key: str) -> str:
    headers = {{"Authorization": f"Bearer {{key}}", "Idempotency-Key": str(uuid.uuid4())}}
    while True:
        try:
            answer = httpx.post(URL, json=lead, headers=headers, timeout=30)
        except httpx.TransportError:
            time.sleep(1)
            continue
        if "Retry-After" not in answer.headers:
            return answer.raise_for_status().json()["lead_id"]
        time.sleep(int(answer.headers["Retry-After"]))"""
    return (
        _paragraph(operation["description"])
        + f"<h3>curl</h3>{_code(curl)}<h3>JavaScript</h3>{_code(script)}<h3>Python</h3>{_code(python)}"
        + _answers(operation)
    )


def _web_page(base_url: str, *, has_example: bool) -> str:
    snippet = f"""<script src="{base_url}/leads.js" data-key="lp_…" async></script>

<form data-leads>
  <label>E-mail <input name="email" type="email" required></label>
  <label><input type="checkbox" name="consent_email"
    data-consent-channel="email" data-consent-version="2026-01">
    You may write to me.</label>
  <button>Send</button>
  <p data-leads-status role="status"></p>
</form>"""
    example = ' <a href="example">The example page</a> shows it at work.' if has_example else ""
    return (
        _code(snippet)
        + "<p>Put the site into the source's <code>cors_origins</code> in leads.yaml. What cannot be sent waits in the "
        "browser, seven days at most, and is sent when there is a connection again or at the next visit. The form gets "
        f"the events <code>leads:stored</code>, <code>leads:waiting</code> and <code>leads:refused</code>.{example}</p>"
    )


def _batch(document: dict[str, Any], base_url: str) -> str:
    operation = document["paths"]["/v1/leads/batch"]["post"]
    curl = f"""curl -sS {base_url}/v1/leads/batch -H "Authorization: Bearer $KEY" \\
  -H "Content-Type: application/x-ndjson" --data-binary @leads.ndjson"""
    return _paragraph(operation["description"]) + _code(curl) + _answers(operation)


def _sources(document: dict[str, Any], base_url: str) -> str:
    operation = document["paths"]["/v1/in/{tenant}/{source}"]["post"]
    rows = [
        (
            f"<code>{escape(name)}</code>",
            "its signature" if kind.signed else "an API key",
            "<br>".join(f"<code>{escape(media)}</code>" for media in sorted(kind.media_types)),
        )
        for name, kind in KINDS.items()
    ]
    return (
        f'<p class="route">{escape(base_url)}/v1/in/TENANT/SOURCE</p>'
        + _paragraph(operation["description"])
        + _table(("kind", "proved by", "body"), rows)
        + _answers(operation)
    )


def _fields(document: dict[str, Any]) -> str:
    schemas = document["components"]["schemas"]
    lead, consent = schemas["Lead"], schemas["ConsentStatement"]

    def rows(properties: dict[str, Any]) -> list[tuple[str, str]]:
        return [
            (f"<code>{escape(name)}</code>", escape(said.get("description", ""))) for name, said in properties.items()
        ]

    return (
        _paragraph(lead["description"])
        + _table(("field", "meaning"), rows(lead["properties"]))
        + "<h3>A consent statement</h3>"
        + _table(("field", "meaning"), rows(consent["properties"]))
    )


def _refusals() -> str:
    rows = [
        (
            f"<code>{escape(refusal.code)}</code>",
            str(refusal.status),
            escape(refusal.message),
            "no" if refusal.retry_after_seconds is None else f"after {refusal.retry_after_seconds} s",
        )
        for refusal in REFUSALS.values()
    ]
    shape = """{"error": {"code": "wrong_type", "message": "A field has the wrong type; each is named under 'fields'.",
           "field": "email", "fields": [{"field": "email", "message": "must be a string or a number, not an array"}],
           "request_id": "9f2c41d07b1e66a0"}}"""
    return (
        "<p>Every refusal has one shape; it never repeats what was sent. With those that pass comes "
        "<code>Retry-After</code>, in seconds: send the same request again after it.</p>"
        + _code(shape)
        + _table(("code", "status", "message", "send again"), rows)
    )


def _routes(document: dict[str, Any]) -> str:
    rows = [
        (
            f'<span class="route"><span class="method">{method.upper()}</span> {escape(path)}</span>',
            escape(said["summary"]),
        )
        for path, item in document["paths"].items()
        for method, said in item.items()
        if method != "parameters"
    ]
    return _table(("address", "what it is for"), rows)


def _answers(operation: dict[str, Any]) -> str:
    """What it is answered if all is well; the refusals have a table of their own."""
    rows = [
        (f"<code>{status}</code>", escape(said["description"]))
        for status, said in sorted(operation["responses"].items())
        if status < "400"
    ]
    refused = ", ".join(status for status in operation["responses"] if status >= "400")
    rows.append(("<code>4xx</code> <code>5xx</code>", f'<a href="#refusals">Refused</a>: {refused}.'))
    return _table(("answer", "meaning"), rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    # Wide tables scroll by themselves on a narrow screen, also by the keyboard.
    return f'<div class="table" tabindex="0"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>'


def _code(text: str) -> str:
    return f'<pre tabindex="0"><code>{escape(text)}</code></pre>'


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"
