"""A receiver of our webhook over real HTTP, as docs/destinations.md tells its writer to make one.

It refuses what is not signed with its secret, keeps the highest version of each contact, and takes an event that it has
had before for done. Faults are those of the sandboxes.
"""

import json
import socket
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from random import Random
from typing import Any

from leads_pipeline.clock import SystemClock
from leads_pipeline.sandbox.faults import FaultInjector, FaultKind, FaultRule
from leads_pipeline.sources.port import Delivery, Secrets
from leads_pipeline.sources.standard_webhooks import StandardWebhooks
from leads_pipeline_tests.outbound.http_listener import Listener, listening

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3"

_STATUSES = {
    FaultKind.REFUSED_400: 400,
    FaultKind.HTTP_500: 500,
    FaultKind.HTTP_502: 502,
    FaultKind.HTTP_503: 503,
    FaultKind.HTTP_429: 429,
    FaultKind.AUTH: 401,
    FaultKind.FORBIDDEN_403: 403,
    FaultKind.LOCKED_423: 423,
    FaultKind.WRITTEN_THEN_500: 500,
}
_WRITTEN = (FaultKind.WRITTEN_THEN_500, FaultKind.WRITTEN_THEN_RESET, FaultKind.WRITTEN_THEN_TIMEOUT)
_HANGING = (FaultKind.TIMEOUT, FaultKind.WRITTEN_THEN_TIMEOUT)


@dataclass
class Receiver:
    """What came, and what is held of it."""

    batches: bool
    secret: str = SECRET
    url: str = ""
    listener: Listener = field(default_factory=Listener)
    contacts: dict[str, dict[str, Any]] = field(default_factory=dict)  # by contact id: the last event that counted
    erased: set[str] = field(default_factory=set)
    arrivals: Counter[str] = field(default_factory=Counter)  # of events, by id
    applied: Counter[str] = field(default_factory=Counter)  # those that were new, by contact id and version
    unsigned: int = 0

    def __post_init__(self) -> None:
        self._faults = FaultInjector(Random(0), clock=SystemClock())

    def fail(self, *rules: Mapping[str, Any]) -> None:
        self._faults.arm([FaultRule(**rule) for rule in rules])

    def held(self) -> dict[str, dict[str, Any]]:
        """The contacts that are there, with their properties."""
        return {key: item["properties"] for key, item in self.contacts.items() if item["is_there"]}

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        arrived = self.listener.sent[-1]
        delivery = Delivery("POST", self.url, arrived.headers, {}, arrived.content, SystemClock().now())
        if StandardWebhooks().verify(delivery, Secrets(signing=self.secret)) is not None:
            self.unsigned += 1
            _reply(handler, 401, {})
            return
        rule = self._faults.for_request("", body=arrived.content)
        kind = None if rule is None else rule.kind
        document = json.loads(arrived.content)
        assert document["id"] == arrived.headers["webhook-id"]
        if document.get("type") == "test":
            _reply(handler, 200, {})
            return
        results = None
        if kind is None or kind is FaultKind.SLOW or kind in _WRITTEN:
            results = self._taken(document)
        if kind in _STATUSES:
            _reply(handler, _STATUSES[kind], {"message": "as the fault says"})
        elif kind in _HANGING:
            _wait_for_the_client_to_give_up(handler)
        elif kind in (FaultKind.RESET_CONNECTION, FaultKind.WRITTEN_THEN_RESET):
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)
        elif self.batches and results is not None:
            _reply(handler, 200, {"results": results})
        else:
            _reply(handler, 200, {})

    def _taken(self, document: Mapping[str, Any]) -> list[dict[str, Any]]:
        results = []
        for event in document["events"] if self.batches else [document]:
            result = self._apply(event)
            values = [event["id"], *map(str, event["data"].get("properties", {}).values())]
            rule = self._faults.for_record("", values)
            if rule is None or rule.kind is not FaultKind.UNREPORTED:
                results.append({"id": event["id"], **result})
        return results[::-1]  # no order is promised

    def _apply(self, event: Mapping[str, Any]) -> dict[str, Any]:
        data = event["data"]
        key, known = data["contact_id"], self.contacts.get(data["contact_id"])
        self.arrivals[event["id"]] += 1
        email = data.get("properties", {}).get("email")
        if email is not None and "@" not in email:
            return {"status": "invalid", "code": "NO_ADDRESS", "message": f"{email} is no address"}
        if self.arrivals[event["id"]] > 1 or (known is not None and data["version"] < known["version"]):
            return {"status": "delivered"}
        self.applied[f"{key}:{data['version']}"] += 1
        if event["type"] == "contact.erased":
            self.contacts.pop(key, None)
            self.erased.add(key)
        elif event["type"] == "contact.removed":
            self.contacts[key] = {"version": data["version"], "properties": {}, "is_there": False}
        elif event["type"] == "contact.consent_withdrawn":
            if known is not None and known["is_there"]:
                self.contacts[key] = {**known, "properties": known["properties"] | data["properties"]}
        elif key not in self.erased:
            properties = {name: value for name, value in data["properties"].items() if value is not None}
            self.contacts[key] = {"version": data["version"], "properties": properties, "is_there": True}
        return {"status": "delivered"}


@contextmanager
def receiving(*, batches: bool) -> Iterator[Receiver]:
    """A receiver at a port of its own."""
    receiver = Receiver(batches=batches)
    with listening() as listener:
        receiver.listener, receiver.url = listener, f"{listener.url}/hooks/contacts?from=leads"
        listener.answer_with = receiver.answer
        yield receiver


def _reply(handler: BaseHTTPRequestHandler, status: int, body: Mapping[str, Any]) -> None:
    content = json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def _wait_for_the_client_to_give_up(handler: BaseHTTPRequestHandler) -> None:
    handler.close_connection = True
    handler.connection.recv(1)  # comes back once the client has hung up
