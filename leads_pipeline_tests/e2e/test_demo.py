"""`leads demo`: the whole product on leads whose truth is known."""

import json
from pathlib import Path

import pytest

from leads_pipeline_tests.e2e.conftest import Checkout

pytestmark = pytest.mark.slow

STATES = ("pending", "delivered", "merged", "rejected", "dead", "suppressed", "discarded", "erased")


def demo(checkout: Checkout, *arguments: str) -> tuple[dict, str]:
    figures = checkout.config.parent / "figures.json"
    done = checkout.run("demo", "--json", str(figures), *arguments)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(figures.read_text(encoding="utf-8")), done.stdout


def test_the_demo_loses_nothing_doubles_nothing_and_keeps_the_limit_twice_in_a_row(checkout: Checkout):
    for _time in range(2):
        figures, printed = demo(checkout, "--leads", "400", "--seed", "7")

        assert figures["captured"] + figures["duplicates_posted"] == 400
        assert figures["raw"] == figures["captured"]
        assert figures["conserved"] is True
        assert sum(figures[state] for state in STATES) == figures["captured"]
        assert figures["pending"] == 0
        assert figures["rejected"] > 0
        assert 0 < figures["suppressed"] < figures["delivered"] < figures["contacts"]  # some have withdrawn consent
        assert figures["delivered"] + figures["merged"] + figures["suppressed"] == figures["validated"]
        assert figures["crm"]["http_429"] == 0
        assert 0 < figures["crm"]["max_requests_in_any_10s"] <= figures["crm"]["limit"] == 20
        assert figures["matching"]["precision"] > 0.9
        assert figures["matching"]["recall"] > 0.8
        assert figures["latency_seconds"]["p99"] >= figures["latency_seconds"]["p50"] > 0
        assert set(figures["seconds"]) == {
            "capture",
            "raw_leads",
            "validated_leads",
            "deduped_leads",
            "golden_contacts",
            "crm_sync_batches",
            "reporting",
            "verifications",
        }
        assert "holds: the states add up" in printed
        assert "Look around" in printed

    status = checkout.run("--config", str(checkout.state / "demo" / "leads.yaml"), "status", "--json")
    assert json.loads(status.stdout)["tenants"][0]["captured"] == figures["captured"]


def test_the_demo_takes_a_real_file_with_known_truth(checkout: Checkout):
    rows = [
        "unique_id,first_name,surname,dob,city,email,cluster",
        "0,Julia,Taylor,2015-10-29,London,hannah88@powers-hill.com,0",
        "1,Julia,Taylor,2015-10-29,London,hannah88@powers-hill.com,0",
        "2,Noah,Watson,1988-03-23,Bolton,matthew78@ballard-mcdonald.net,1",
        "3,Noah,Watson,1988-03-23,Bolton,matthew78@ballard-mcdonald.net,1",
        "4,Grace,,1997-04-26,Hull,grace.kelly52@jones.com,2",
    ]
    path = checkout.config.parent / "people.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")

    figures, printed = demo(checkout, "--input", str(path), "--truth", "cluster")

    assert figures["captured"] == 5
    assert figures["contacts"] == 3
    assert figures["matching"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0}
    assert "surname → last_name" in printed


def test_a_truth_column_that_is_not_there_is_named(checkout: Checkout, tmp_path: Path):
    path = tmp_path / "people.csv"
    path.write_text("email\nada@engines.example\n", encoding="utf-8")

    done = checkout.run("demo", "--input", str(path), "--truth", "cluster")

    assert done.returncode == 1
    assert "no column 'cluster'" in done.stderr
    assert "email" in done.stderr
