"""The settings of webhooks, tables and folders: what is allowed, and what the faults say."""

from pathlib import Path

import pytest

from leads_pipeline.config import FileSettings, Settings, SqlSettings, WebhookSettings, parse_settings
from leads_pipeline.crm.clients import build_each
from leads_pipeline.crm.mapping import mapping_rules
from leads_pipeline.errors import ConfigError

_FILE = "tenants: {{acme: {{sources: {{website: {{}}}}, destinations: [out]}}}}\ndestinations: {{out: {{{}}}}}"
WEBHOOK = "vendor: webhook, account: a, url: 'https://hooks.example.com/x', secret: {env: HOOK_SECRET}"
SQL = "vendor: sql, account: a, url: {env: TABLE_URL}, table: contacts"
FILE = "vendor: file, account: a, directory: /srv/out"


def parsed(text: str) -> Settings:
    return parse_settings(_FILE.format(text), path=Path("leads.yaml"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("vendor: webhook, account: a, secret: {env: S}", "destinations.out.url: required, but missing"),
        (
            "vendor: webhook, account: a, url: 'http://hooks.example.com/x', secret: {env: S}",
            (
                "destinations.out: contacts would be readable on the way to url; allowed: https://, http:// to this "
                "machine, or plain_http: true"
            ),
        ),
        (
            "vendor: webhook, account: a, url: 'https://ada:s3cret@hooks.example.com/x', secret: {env: S}",
            (
                "destinations.out.url: a name and a password do not stand in an address; allowed: headers: "
                "{Authorization: {env: NAME}}"
            ),
        ),
        (
            "vendor: webhook, account: a, url: 'https://h/', secret: whsec_s3cret",
            "destinations.out.secret: a secret stands in the environment, not in this file: write {env: NAME}",
        ),
        (
            f"{WEBHOOK}, headers: {{X-Key: s3cret}}",
            "destinations.out.headers.X-Key: a secret stands in the environment, not in this file: write {env: NAME}",
        ),
        (
            f"{WEBHOOK}, headers: {{Webhook-Id: {{env: A}}}}",
            (
                "destinations.out.headers.Webhook-Id = 'Webhook-Id': this header is set by ourselves; allowed: any "
                "other, such as Authorization"
            ),
        ),
        (
            "vendor: sql, account: a, url: 'postgresql://ada:s3cret@h/d', table: contacts",
            "destinations.out.url: a secret stands in the environment, not in this file: write {env: NAME}",
        ),
        (
            "vendor: sql, account: a, url: {env: U}, table: a.b.c",
            (
                "destinations.out.table = 'a.b.c': not a table's name; allowed: schema.table, or table, without "
                "quotation marks"
            ),
        ),
        (
            f"{SQL}, tenant_column: phone",
            (
                "destinations.out: tenant_column and mapping or constants both fill in the column 'phone'; "
                "give each its own"
            ),
        ),
        (
            f"{SQL}, version_column: contact_id",
            "destinations.out: version_column and key_column both fill in the column 'contact_id'; give each its own",
        ),
        (
            "vendor: file, account: a, directory: out",
            "destinations.out.directory = 'out': allowed: an absolute path, such as /srv/exports/contacts",
        ),
        (
            f"{FILE}, format: csv, constants: {{version: 2}}",
            "destinations.out: every CSV file has a column 'version' already; map the field to another name",
        ),
    ],
)
def test_a_fault_says_what_is_allowed_and_repeats_no_secret(text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    assert caught.value.faults == (fault,)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (r"https://x.example/a\tb", "holds a space"), ("https://exa mple.com/a", "holds a space"),
        (r"https://x.example/\x7f", "holds a space"), ("https://ada:s3cret@x.example:port/", "cannot be read"),
        ("https://[::1/", "cannot be read"), ("https://1.2.3.400/", "cannot be read"), ("https:///a", "names no host"),
        ("https://x.example:0/", "names no host"), ("x.example", "must begin with https:// or http://"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "vendor",
    [
        'vendor: webhook, account: a, secret: {{env: S}}, url: "{}"',
        'vendor: hubspot, account: a, token: {{env: S}}, base_url: "{}"',
        'vendor: salesforce, account: a, client_id: c, client_secret: {{env: S}}, base_url: "{}"',
    ],
)
def test_an_address_that_no_client_can_be_built_for_is_refused(vendor: str, address: str, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"destinations.out.\w*url.*{said}") as caught:
        parsed(vendor.format(address))
    assert "s3cret" not in str(caught.value)


def test_a_host_that_only_its_client_knows_to_be_none_keeps_no_other_client_from_being_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOOK_SECRET", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3")
    odd = WEBHOOK.replace("hooks.example.com", "xn--")
    text = (
        _FILE.format(odd).replace("[out]", "[out, exports]")[:-1]
        + f", exports: {{vendor: file, account: b, directory: {tmp_path}}}}}"
    )
    built = build_each(parse_settings(text, path=Path("leads.yaml")))
    assert isinstance(built["out"], ConfigError)
    assert not isinstance(built["exports"], ConfigError)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "sandbox.localhost"])
def test_http_is_for_this_machine(host: str) -> None:
    assert parsed(f"vendor: webhook, account: a, url: 'http://{host}:8080/x', secret: {{env: S}}")


def test_or_for_whoever_says_so() -> None:
    assert parsed("vendor: webhook, account: a, url: 'http://hooks.svc/x', plain_http: true, secret: {env: S}")


@pytest.mark.parametrize(("text", "kind"), [(WEBHOOK, WebhookSettings), (SQL, SqlSettings), (FILE, FileSettings)])
def test_nothing_is_limited_that_nobody_stated_and_a_contact_is_called_as_we_call_it(text: str, kind: type) -> None:
    found = parsed(text).destinations["out"]
    assert isinstance(found, kind)
    assert (found.limits.windows, found.limits.daily) == ((), None)
    assert all(rule.name == rule.source for rule in mapping_rules(found))
    stated = parsed(f"{text}, limits: {{in_flight: 2}}").destinations["out"].limits
    assert (stated.windows, stated.daily, stated.in_flight) == ((), None, 2)


def test_every_secret_is_known() -> None:
    found = parsed(f"{WEBHOOK}, previous_secret: {{env: OLD}}, headers: {{X-Key: {{env: KEY}}}}").secrets()
    assert {name: reference.env for name, reference in found.items()} == {
        "destinations.out.secret": "HOOK_SECRET",
        "destinations.out.previous_secret": "OLD",
        "destinations.out.headers.X-Key": "KEY",
    }
    assert set(parsed(SQL).secrets()) == {"destinations.out.url"}
