"""A DNS server on 127.0.0.1 that a test can make slow, broken or a liar, one name or all names at a time."""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

Zone = Mapping[str, Mapping[str, Sequence[str]]]  # name → type → records as a zone file has them

# The root is what every server knows that asks on behalf of others.
ROOT: Zone = {".": {"NS": ["a.root-servers.net."]}}
SOA = "ns.test. hostmaster.test. 1 3600 600 86400 60"


@dataclass
class DnsServer:
    """A running server. ``faults``: by name, or ``*``: silent, servfail, refused, garbage, other_question, referral,
    nxdomain, truncated, or ``address``: every name has one, and none is denied. Change it while it runs.
    """

    port: int
    zone: Zone
    faults: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)  # name, type

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def asked_about(self, name: str) -> int:
        return sum(asked == name for asked, _kind in self.asked)

    def answer(self, wire: bytes, *, over_tcp: bool) -> bytes | None:
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        fault = self.faults.get(name) or self.faults.get("*", "")
        response = dns.message.make_response(query, recursion_available=True)
        if fault == "silent":
            return None
        if fault == "garbage":
            return wire[:2] + b"\xff" * 40
        if fault == "other_question":
            other = dns.message.make_query("other.test", question.rdtype, id=query.id)
            response = dns.message.make_response(other)
            response.answer.append(dns.rrset.from_text("other.test.", 60, "IN", kind, "10 mx.other.test."))
        elif fault in ("servfail", "refused", "nxdomain"):
            response.set_rcode(dns.rcode.from_text(fault.upper()))
        elif fault == "referral":
            response.authority.append(dns.rrset.from_text("test.", 60, "IN", "NS", "ns.test."))
        elif fault == "address" and kind in ("A", "AAAA"):
            response.answer.append(dns.rrset.from_text(question.name, 60, "IN", "A", "198.51.100.9"))
        elif fault == "truncated" and not over_tcp:
            response.flags |= dns.flags.TC
        else:
            self._look_up(response, question.name, name, kind, denies=fault != "address")
        return response.to_wire(max_size=65_535)

    def _look_up(
        self, response: dns.message.Message, owner: dns.name.Name, name: str, kind: str, *, denies: bool
    ) -> None:
        records = (ROOT | self.zone).get(name)
        if records is None:
            if denies:
                response.set_rcode(dns.rcode.NXDOMAIN)
        elif "CNAME" in records:
            [target] = records["CNAME"]
            response.answer.append(dns.rrset.from_text(owner, 60, "IN", "CNAME", target))
            aim = dns.name.from_text(target)
            self._look_up(response, aim, aim.to_text(omit_final_dot=True), kind, denies=denies)
            return
        elif found := records.get(kind):
            response.answer.append(dns.rrset.from_text(owner, 60, "IN", kind, *found))
            return
        response.authority.append(dns.rrset.from_text("test.", 60, "IN", "SOA", SOA))


@contextlib.contextmanager
def dns_server(zone: Zone, **faults: str) -> Iterator[DnsServer]:
    """A server that knows the root and the zone; it has stopped when the block ends. ``everything=`` is ``*``."""
    if "everything" in faults:
        faults["*"] = faults.pop("everything")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        udp.bind(tcp.getsockname())
        server = DnsServer(tcp.getsockname()[1], zone, faults)
        threads = [threading.Thread(target=serve, args=(server, listening)) for serve, listening in
                   ((_serve_udp, udp), (_serve_tcp, tcp))]  # fmt: skip
        for thread in threads:
            thread.start()
        try:
            yield server
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", udp.getsockname())
            tcp.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join(timeout=10)
                assert not thread.is_alive()


def _serve_udp(server: DnsServer, udp: socket.socket) -> None:
    while True:
        wire, sender = udp.recvfrom(4096)
        if not wire:
            return
        answer = server.answer(wire, over_tcp=False)
        if answer is not None:
            udp.sendto(answer, sender)


def _serve_tcp(server: DnsServer, tcp: socket.socket) -> None:
    while True:
        try:
            connection, _sender = tcp.accept()
        except OSError:
            return
        with connection:
            (length,) = struct.unpack("!H", connection.recv(2))
            answer = server.answer(connection.recv(length), over_tcp=True)
            if answer is not None:
                connection.sendall(struct.pack("!H", len(answer)) + answer)
