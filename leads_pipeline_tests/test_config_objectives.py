"""slos.objectives of leads.yaml: what is promised by default, what an entry changes, how faults are named."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from leads_pipeline.config import Settings, json_schema, parse_settings
from leads_pipeline.errors import ConfigError

MINIMAL = "tenants: {acme: {sources: {website: {}}}}\n"


def settings_of(slos: str = "") -> Settings:
    text = MINIMAL + slos
    jsonschema.validate(yaml.safe_load(text), json_schema())
    return parse_settings(text, path=Path("leads.yaml"))


def faults_of(slos: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse_settings(MINIMAL + slos, path=Path("leads.yaml"))
    return caught.value.faults


def test_promises_hold_without_a_word_in_the_file():
    promises = settings_of().slos.promises

    assert {name: promise.words for name, promise in promises.items()} == {
        "verified_in_time": "99 % of real-time and near-real-time leads are verified within 5 min, over 30 days",
        "real_time_in_crm": "99 % of real-time leads are in the CRM within 60 s, over 30 days",
        "delivered_in_a_day": "99.9 % of leads are in the CRM within 24 h, over 30 days",
        "rejection_rate": "no more than 25 % of the leads are rejected, over 24 h",
        "bounce_rate": "no more than 5 % of the leads bounce, over 7 days",
        "conservation": "every captured lead is in exactly one state",
        "duplicate_contacts": "no two golden contacts of a tenant hold one e-mail address",
    }


def test_only_duplicates_close_a_gate_by_default():
    promises = settings_of().slos.promises

    assert [name for name, promise in promises.items() if promise.action == "close_gate"] == ["duplicate_contacts"]


def test_what_has_no_budget_breaks_at_its_first_fault():
    promises = settings_of().slos.promises

    assert [name for name, promise in promises.items() if not promise.has_budget] == [
        "conservation", "duplicate_contacts",
    ]  # fmt: skip


def test_an_entry_changes_only_what_it_names():
    before = settings_of().slos.promises["real_time_in_crm"]
    after = settings_of("slos: {objectives: {real_time_in_crm: {within_seconds: 30}}}").slos.promises

    assert after["real_time_in_crm"] == before.model_copy(update={"within_seconds": 30.0})
    assert after.keys() == settings_of().slos.promises.keys()


@pytest.mark.parametrize("entry", ["null", "{enabled: false}"])
def test_a_default_can_be_switched_off(entry: str):
    promises = settings_of(f"slos: {{objectives: {{conservation: {entry}}}}}").slos.promises

    assert "conservation" not in promises
    assert "duplicate_contacts" in promises


def test_a_default_may_measure_something_else():
    promise = settings_of(
        "slos: {objectives: {verified_in_time: {measure: measured, measured: queue_depth, limit: 5}}}"
    ).slos.promises["verified_in_time"]

    assert (promise.words, promise.within_seconds) == ("queue_depth is at most 5", None)


def test_a_promise_of_ones_own_stands_beside_the_defaults():
    promises = settings_of(
        "slos: {objectives: {quick: {promise: Sales hear of it at once, lanes: [real_time], within_seconds: 5}}}"
    ).slos.promises

    assert promises["quick"].words == "Sales hear of it at once"
    assert len(promises) == 1 + len(settings_of().slos.promises)


def test_the_older_keys_are_the_rejection_rates_own():
    promise = settings_of("slos: {max_rejection_rate: 0.4, rejection_window_hours: 6}").slos.promises["rejection_rate"]

    assert (promise.objective, promise.window_hours) == (pytest.approx(0.6), 6)


def test_an_entry_stands_above_the_older_keys():
    promise = settings_of(
        "slos: {max_rejection_rate: 0.4, objectives: {rejection_rate: {objective: 0.9}}}"
    ).slos.promises

    assert promise["rejection_rate"].objective == 0.9


def test_the_other_keys_of_slos_keep_their_meaning_beside_objectives():
    slos = settings_of("slos: {min_sample: 3, max_pending_seconds: {batch: 1}, objectives: {conservation: null}}").slos

    assert (slos.min_sample, slos.max_pending_seconds["batch"], slos.max_pending_seconds["real_time"]) == (3, 1, 120)


@pytest.mark.parametrize(
    ("slos", "fault"),
    [
        ("slos: {objectives: {convservation: null}}", "objectives.convservation = null switches nothing off"),
        ("slos: {objectives: {own: {stage: raw_leads}}}", "slos.objectives.own: measure latency needs within_seconds"),
        ("slos: {objectives: {own: {within_seconds: 0}}}", "slos.objectives.own.within_seconds = 0: input should be"),
        ("slos: {objectives: {own: {within: 5}}}", "slos.objectives.own.within: there is no such key"),
        ("slos: {objectives: {own: 5}}", "slos.objectives.own = 5: must be a mapping"),
        (
            "slos: {objectives: {conservation: {objective: 0.9}}}",
            "objective is of measure latency or rejections or bounces",
        ),
        (
            "slos: {objectives: {own: {measure: measured, measured: x}}}",
            "needs measured: NAME, and either limit or at_",
        ),
        (
            "slos: {objectives: {own: {measure: measured, measured: mood, limit: 1}}}",
            "'mood' is not measured; allowed: q",
        ),
        ("slos: {objectives: {own: {within_seconds: 5, tenant: nobody}}}", "tenant = 'nobody'; defined: acme"),
        ("slos: {objectives: {own: {within_seconds: 5, tenant: acme, together: true}}}", "contradict each other"),
        (
            "slos: {objectives: {conservation: {severity: loud}}}",
            "severity = 'loud': input should be 'page' or 'ticket'",
        ),
        ("slos: {objectives: {conservation: {playbook: ../x}}}", "slos.objectives.conservation.playbook = '../x'"),
        (
            (
                "slos: {objectives: {own: {within_seconds: 5, burn_alerts: "
                "[{burn: 2, long_minutes: 5, short_minutes: 60, severity: page}]}}}"
            ),
            "slos.objectives.own.burn_alerts.0: short_minutes = 60 is longer than long_minutes = 5",
        ),
        ("slos: {when_stale: ajar}", "slos.when_stale = 'ajar': input should be 'open' or 'closed'"),
    ],
)
def test_a_fault_names_key_value_and_what_is_allowed(slos: str, fault: str):
    assert any(fault in found for found in faults_of(slos)), faults_of(slos)


def test_settings_can_be_made_anew_of_all_that_they_say():
    settings = settings_of("slos: {objectives: {rejection_rate: {objective: 0.9}}}\n")

    assert Settings.model_validate(settings.model_dump()).slos == settings.slos


@pytest.mark.parametrize(
    ("promise", "told"),
    [
        ("{stage: delivered, within_seconds: 60, action: close_gate}", "stage = 'delivered'"),
        ("{measure: measured, measured: dead_letters_open, limit: 5, action: close_gate}", "'dead_letters_open'"),
        (
            "{measure: measured, measured: delivery_failure_rate, limit: 0.5, action: close_gate}",
            "allowed: action none",
        ),
    ],
)
def test_a_promise_that_only_sending_can_keep_closes_no_gate(promise: str, told: str):
    [fault] = faults_of("slos: {objectives: {mine: " + promise + "}}")

    assert "slos.objectives.mine" in fault
    assert told in fault
    assert "allowed: " in fault
