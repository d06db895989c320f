"""Whether a domain takes mail, by what DNS says of it (RFC 5321 section 5.1, RFC 7505).

| DNS says | verdict |
|---|---|
| MX hosts | valid; ``mail_provider`` where the hosts are a known provider's |
| a null MX | invalid, ``null_mx`` |
| there is no such name | invalid, ``domain_not_found`` |
| no MX, but an address | valid with the flag ``implicit_mx``: mail goes to that address; often it is only a web site |
| no MX and no address | invalid, ``no_mail_server`` |
| nothing, or something that cannot be believed | unknown, ``dns_failure`` |

MX records are believed as they are. That something is missing, or that there is only an address, is what broken servers
and paying portals say of every name: it is believed of a server that knows what exists and denies what does not
(``Server.is_honest``), and where there are several servers only if two of them say the same.
"""

import asyncio
import ipaddress
from collections.abc import Callable, Collection, Iterator
from datetime import timedelta
from functools import lru_cache

import dns.exception
import dns.name
import dns.rdatatype
import dns.rdtypes.ANY.MX

from leads_pipeline.clock import Clock, SystemClock
from leads_pipeline.config import MxSettings
from leads_pipeline.domain.data.mail_hosts import mail_provider
from leads_pipeline.domain.verification import LookupVerdict, Standing
from leads_pipeline.verification.mx_servers import Reply, Server, Sleep, in_order, servers_of

# Domains asked for at once. Where every server is silent, this many time-outs are waited for together.
MAX_UNDER_WAY = 128
IMPLICIT_MX = "implicit_mx"

# Not a name that DNS could hold; no server was asked.
NO_NAME = LookupVerdict(Standing.INVALID, ("bad_syntax",))
FAILED = LookupVerdict(Standing.UNKNOWN, ("dns_failure",))
_NULL_MX = LookupVerdict(Standing.INVALID, ("null_mx",))
_NOT_FOUND = LookupVerdict(Standing.INVALID, ("domain_not_found",))
_NO_SERVER = LookupVerdict(Standing.INVALID, ("no_mail_server",))
_IMPLICIT = LookupVerdict(Standing.VALID, flags=(IMPLICIT_MX,))


class MxResolver:
    """Asks the configured servers. Holds no verdicts; keep one, as it knows each server's pace and health.

    ``clock`` and ``sleep`` keep the pace; DNS itself answers in its own time. ``reserve`` shares the pace with other
    processes: ``storage.mx_pace``.
    """

    def __init__(
        self,
        settings: MxSettings,
        *,
        clock: Clock | None = None,
        sleep: Sleep = asyncio.sleep,
        reserve: Callable[[str, float], float] | None = None,
    ) -> None:
        """Raises ``ConfigError`` if there is no server to ask."""
        self._servers = servers_of(settings, clock=clock or SystemClock(), sleep=sleep, reserve=reserve)

    def look_up(self, domains: Collection[str], *, deadline_seconds: float) -> dict[str, LookupVerdict]:
        """Verdicts about domains (as ``dns_name`` gives them), each asked for once, in their order.

        What is not answered when the deadline has passed is missing.
        """
        return asyncio.run(self._look_up_all(domains, deadline_seconds))

    async def look_up_one(self, domain: str) -> LookupVerdict:
        """The verdict about one domain, in the caller's event loop; it ends by the time-outs of its queries."""
        for server in in_order(self._servers):
            verdict = await _opinion(server, domain)
            if verdict is None:
                continue
            if not _needs_belief(verdict):
                return verdict
            if await server.is_honest():
                return await self._confirmed(verdict, domain, by=server)
        return FAILED

    async def _confirmed(self, verdict: LookupVerdict, domain: str, *, by: Server) -> LookupVerdict:
        """The verdict, if there is nobody else to ask or somebody else says the same."""
        others = [server for server in self._servers if server is not by]
        for other in in_order(others):
            second = await _opinion(other, domain)
            if second is not None and (not _needs_belief(second) or await other.is_honest()):
                return verdict if second.standing is verdict.standing and _needs_belief(second) else FAILED
        return FAILED if others else verdict

    async def _look_up_all(self, domains: Collection[str], deadline_seconds: float) -> dict[str, LookupVerdict]:
        found: dict[str, LookupVerdict] = {}
        names = iter(dict.fromkeys(domains))

        async def work(names: Iterator[str]) -> None:
            for name in names:
                found[name] = await self.look_up_one(name)

        try:
            async with asyncio.timeout(deadline_seconds), asyncio.TaskGroup() as group:
                for _worker in range(min(MAX_UNDER_WAY, len(domains))):
                    group.create_task(work(names))
        except TimeoutError:
            pass
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None  # who keeps the pace failed; DNS itself raises nothing
        return found


@lru_cache(maxsize=65_536)
def dns_name(domain: str) -> str | None:
    """A domain as DNS has it: A-labels, lower case, without the last dot; ``None`` if it cannot be a name there."""
    try:
        name = dns.name.from_text(domain.strip(), idna_codec=dns.name.IDNA_2008_Practical)
        text = name.to_text(omit_final_dot=True).lower()
    except (dns.exception.DNSException, UnicodeError):
        return None
    return text if name != dns.name.root else None


def holds_for(standing: Standing, settings: MxSettings) -> timedelta:
    """How long DNS's word is believed: that there is mail for days, that there is none for hours, a failure briefly."""
    if standing is Standing.UNKNOWN:
        return timedelta(seconds=settings.failure_seconds)
    return timedelta(hours=settings.negative_hours if standing is Standing.INVALID else settings.positive_hours)


def _needs_belief(verdict: LookupVerdict) -> bool:
    """Whether it rests on what a server did not find: records that are there were put there by somebody."""
    return verdict in (_NOT_FOUND, _NO_SERVER, _IMPLICIT)


async def _opinion(server: Server, domain: str) -> LookupVerdict | None:
    """What one server says; ``None`` if it fails on the way."""
    reply = await server.ask(domain, dns.rdatatype.MX)
    if reply is None:
        return None
    if not reply.exists:
        return _NOT_FOUND
    if reply.records:
        return _by_hosts(reply)
    addresses = await server.ask(domain, dns.rdatatype.A)
    if addresses is not None and not addresses.records:
        addresses = await server.ask(domain, dns.rdatatype.AAAA)
    if addresses is None or not addresses.exists:
        return None  # it failed, or takes back that there is such a name
    if not addresses.records:
        return _NO_SERVER
    # 0.0.0.0 and 127.0.0.1 are what filters say of names that they block: nothing about the name.
    return _IMPLICIT if any(_leads_somewhere(record.to_text()) for record in addresses.records) else None


def _by_hosts(reply: Reply) -> LookupVerdict:
    records = [record for record in reply.records if isinstance(record, dns.rdtypes.ANY.MX.MX)]
    records.sort(key=lambda record: record.preference)
    hosts = [record.exchange.to_text(omit_final_dot=True).lower() for record in records]
    hosts = [host for record, host in zip(records, hosts, strict=True) if record.exchange != dns.name.root]
    if not hosts:
        return _NULL_MX
    if not any(_could_be_a_host(host) for host in hosts):
        return _NO_SERVER
    provider = mail_provider(hosts)
    return LookupVerdict(Standing.VALID, details={"mail_provider": provider} if provider else {})


def _could_be_a_host(host: str) -> bool:
    """Not this machine, and no address where a name must stand: how domains are parked."""
    return host != "localhost" and not host.rpartition(".")[2].isdigit()


def _leads_somewhere(address: str) -> bool:
    found = ipaddress.ip_address(address)
    return not (found.is_unspecified or found.is_loopback)
