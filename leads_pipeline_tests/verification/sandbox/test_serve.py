"""``leads sandbox serve`` with a provider's or the DNS server's name."""

import signal

import dns.message
import dns.query
import dns.rcode
import httpx
import pytest
from click.testing import CliRunner

from leads_pipeline.cli import cli
from leads_pipeline.verification.sandbox.options import VENDORS
from leads_pipeline_tests.crm.sandbox.test_persistence import serving


def test_a_provider_demands_the_key_that_the_environment_holds_and_ends_in_order():
    environment = {"LEADS_ZEROBOUNCE_KEY": "s3cret"}
    with serving("--vendor", "zerobounce", "--credit", "5", environment=environment) as (process, url):
        left = [
            httpx.get(f"{url}/v2/getcredits", params={"api_key": key}, trust_env=False, timeout=60).json()["Credits"]
            for key in ("s3cret", "wrong")
        ]
        process.send_signal(signal.SIGTERM)

        assert left == ["5", "-1"]
        assert process.wait(60) == 0


def test_the_dns_server_answers_by_the_rules_that_it_is_given_and_ends_in_order():
    with serving("--vendor", "dns", "--domain", "acme.example=refused", prefix="") as (process, address):
        host, _, port = address.rstrip(",").rpartition(":")
        query = dns.message.make_query("acme.example", "MX")
        answer = dns.query.udp(query, host, port=int(port), timeout=60)
        process.send_signal(signal.SIGTERM)

        assert answer.rcode() == dns.rcode.REFUSED
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--vendor", "dns", "--store", "x"), "--store is not for dns"),
        (("--vendor", "zerobounce", "--key-property", "x"), "only for hubspot"),
        (("--vendor", "hubspot", "--credit", "1"), "only for zerobounce"),
        (("--vendor", "kickbox", "--domain", "a=nxdomain"), "only for dns"),
        (("--vendor", "dns", "--domain", "acme.example"), "NAME=KIND"),
        (("--vendor", "dns", "--domain", "acme.example=lost"), "servfail"),
        (("--vendor", "hunter", "--calls-per-minute", "0"), "--calls-per-minute"),
    ],
)
def test_what_a_vendor_does_not_know_is_refused_by_name(arguments: tuple[str, ...], said: str):
    result = CliRunner().invoke(cli, ["sandbox", "serve", *arguments])

    assert result.exit_code == 2
    assert said in result.output


def test_the_commands_vendors_are_those_that_there_are():
    from leads_pipeline.cli.sandbox import _PORTS, _PROVIDERS

    assert set(_PROVIDERS) == set(VENDORS)
    assert len(set(_PORTS.values())) == len(_PORTS)
