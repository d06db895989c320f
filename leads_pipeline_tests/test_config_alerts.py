"""What leads.yaml says about channels: alerts that nobody would hear of are warned of."""

from pathlib import Path

import pytest

from leads_pipeline.config import parse_settings
from leads_pipeline_tests.conftest import LEADS_YAML

PAGER = "pager: {url: {env: A}, severities: [page]}"


@pytest.mark.parametrize(
    ("channels", "lacks"),
    [
        ("", []),  # `leads alerts list` says so by itself
        (PAGER, []),
        ("all: {url: {env: A}}", []),
        ("chat: {url: {env: A}, severities: [ticket]}", ["no channel takes a page: nobody is woken, whatever happens"]),
        (
            f"{PAGER}, acme: {{url: {{env: A}}, tenants: [acme]}}",
            ["each channel that takes a ticket names tenants: nobody hears of one about all of them, or about globex"],
        ),
        (
            "both: {url: {env: A}, severities: [page], tenants: [acme, globex]}",
            ["each channel that takes a page names tenants: nobody hears of one about all of them"],
        ),
    ],
)
def test_alerts_that_no_channel_takes_are_named(channels: str, lacks: list[str]) -> None:
    settings = parse_settings(f"{LEADS_YAML}\nalerts: {{channels: {{{channels}}}}}\n", path=Path("leads.yaml"))
    assert list(settings.alerts.unheard(settings.tenants)) == lacks
