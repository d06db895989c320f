"""leads.yaml: what is valid, and how every fault is named."""

import re
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from leads_pipeline.cli import cli
from leads_pipeline.config import (
    DELIVERABLE_FIELDS,
    LEAD_FIELDS,
    EndpointClassLimits,
    RequestLimits,
    config_path,
    json_schema,
    load_settings,
    parse_settings,
    project_file,
)
from leads_pipeline.config.destinations import VENDORS
from leads_pipeline.crm.mapping import mapping_rules
from leads_pipeline.domain.destination_schema import FieldType
from leads_pipeline.domain.mapping import MappingRule
from leads_pipeline.domain.survivorship import GOLDEN_FIELDS
from leads_pipeline.errors import ConfigError
from leads_pipeline.storage.schema import golden_contacts

MINIMAL = """
tenants:
  acme:
    sources: {website: {}}
    destinations: [crm]
destinations:
  crm: {vendor: hubspot, account: main, token: {env: CRM_TOKEN}}
"""


def faults_of(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        parse_settings(text, path=Path("leads.yaml"))
    return caught.value.faults


def test_the_shipped_example_is_valid():
    settings = load_settings(str(project_file("leads.yaml")))

    assert settings.tenants["acme"].destinations == ("hubspot",)


def test_the_shipped_example_fits_the_schema():
    document = yaml.safe_load(project_file("leads.yaml").read_text(encoding="utf-8"))

    jsonschema.validate(document, json_schema())


def test_a_minimal_file_gets_the_vendors_limits():
    settings = parse_settings(MINIMAL, path=Path("leads.yaml"))

    limits = settings.destinations["crm"].limits
    assert [(window.requests, window.seconds) for window in limits.windows] == [(100, 10)]
    assert limits.daily is not None
    assert limits.daily.requests == 250_000


def test_every_fault_is_named_with_its_path_its_value_and_what_is_allowed():
    faults = faults_of(
        """
version: 2
tenants:
  Acme: {sources: {website: {lane: fast}}}
  beta: {sources: {}}
matching: {merge_weigth: 3}
slos: {max_rejection_rate: 3}
destinations:
  crm: {vendor: hubspot, account: main, token: pat-secret, limits: {daily: {requests: 1, time_zone: Mars/X}}}
  other: {vendor: pipedrive, account: main}
  third: {account: main}
  fourth: none
"""
    )

    assert set(faults) == {
        "version = 2: input should be 1",
        "tenants.Acme = 'Acme': allowed: a lower-case letter, then up to 62 lower-case letters, digits or underscores",
        "tenants.Acme.sources.website.lane = 'fast': input should be 'real_time', 'near_real_time' or 'batch'",
        "tenants.beta.sources: dictionary should have at least 1 item after validation, not 0",
        "matching.merge_weigth: there is no such key",
        "slos.max_rejection_rate = 3: input should be less than or equal to 1",
        f"destinations.other.vendor = 'pipedrive': there is no such vendor; allowed: {', '.join(sorted(VENDORS))}",
        f"destinations.third.vendor: required, but missing; allowed: {', '.join(sorted(VENDORS))}",
        "destinations.fourth = 'none': must be a mapping",
        "destinations.crm.token: a secret stands in the environment, not in this file: write {env: NAME}",
        "destinations.crm.limits.daily.time_zone = 'Mars/X': allowed: an IANA time zone such as UTC or Europe/Vienna",
    }


def test_a_secret_written_into_the_file_is_refused_without_being_repeated():
    (fault,) = faults_of(MINIMAL.replace("{env: CRM_TOKEN}", "pat-na1-0123456789"))

    assert "pat-na1" not in fault


def test_a_secret_written_in_place_of_its_variable_s_name_is_not_repeated():
    [fault] = faults_of(MINIMAL.replace("CRM_TOKEN", "pat-na1-secret"))

    assert fault.startswith("destinations.crm.token.env: a secret stands in the environment")
    assert "pat-na1" not in fault


def test_a_field_that_no_golden_contact_has_is_named_and_not_left_out_of_what_is_sent():
    [fault] = faults_of(MINIMAL.replace("account: main", "account: main, mapping: {fisrt_name: firstname}"))

    assert fault.startswith("destinations.crm.mapping.fisrt_name")
    assert "allowed: email, phone, first_name" in fault
    assert set(GOLDEN_FIELDS) - {"email_key"} < set(DELIVERABLE_FIELDS) < set(golden_contacts.columns.keys())


def test_a_property_may_say_what_its_values_become():
    rule = "{to: country_name, as: text, values: {AT: Austria}, otherwise: elsewhere}"
    mapping = f"{{country: {rule}, consent.marketing.email: optin}}"
    settings = parse_settings(
        MINIMAL.replace("account: main", f"account: main, mapping: {mapping}, constants: {{stage: lead, new: true}}"),
        path=Path("leads.yaml"),
    )
    crm = settings.destinations["crm"]
    assert crm.properties() == ("country_name", "optin", "stage", "new")
    assert crm.constants == {"stage": "lead", "new": True}
    assert mapping_rules(crm) == (
        MappingRule("country_name", "country", kind=FieldType.TEXT, values={"AT": "Austria"}, otherwise="elsewhere"),
        MappingRule("optin", "consent.marketing.email"),
        MappingRule("stage", constant="lead"),
        MappingRule("new", constant=True),
    )


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        ("{email: email, phone: email}", "email: filled in more than once"),
        ("{email: lead_key}", "lead_key: filled in more than once"),
        ("{email: stage}, constants: {stage: lead}", "stage: filled in more than once"),
        ("{email: {to: x, as: colour}}", "text"),
        ("{email: {to: x, otherwise: y}}", "give `values` too"),
        ("{consent.marketing: optin}", "consent.PURPOSE.CHANNEL"),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused(mapping: str, said: str):
    assert said in " ".join(faults_of(MINIMAL.replace("account: main", f"account: main, mapping: {mapping}")))


def test_a_lane_whose_limit_is_not_stated_keeps_its_own():
    settings = parse_settings(MINIMAL + "slos: {max_pending_seconds: {real_time: 60}}", path=Path("leads.yaml"))

    assert settings.slos.max_pending_seconds == {"real_time": 60, "near_real_time": 600, "batch": 86_400}


def test_destinations_of_one_account_must_state_one_limit():
    second = "  copy: {vendor: hubspot, account: main, token: {env: CRM_TOKEN}, limits: {daily: LIMIT}}\n"

    [fault] = faults_of(MINIMAL + second.replace("LIMIT", "{requests: 250000, time_zone: Europe/Vienna}"))
    assert "destinations.copy.limits differ from destinations.crm.limits" in fault
    parse_settings(MINIMAL + second.replace("LIMIT", "{requests: 250000}"), path=Path("leads.yaml"))


def test_a_window_counts_one_of_requests_credits_and_records_for_up_to_a_day():
    def limits_of(window: str) -> str:
        return MINIMAL.replace("account: main", f"account: main, limits: {{windows: [{window}]}}")

    settings = parse_settings(limits_of("{records: 4000, seconds: 86400}"), path=Path("leads.yaml"))
    [window] = settings.destinations["crm"].limits.windows
    assert (window.most, window.unit, window.seconds) == (4000, "records", 86_400)
    for wrong in ("{seconds: 10}", "{requests: 5, credits: 5, seconds: 10}"):
        [fault] = faults_of(limits_of(wrong))
        assert fault == "destinations.crm.limits.windows.0: a window counts one of requests, credits and records"
    [fault] = faults_of(limits_of("{requests: 5, seconds: 86401}"))
    assert "less than or equal to 86400" in fault


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ("windows: [{credits: 4000, seconds: 86400}]", "requests to hubspot are charged none; allowed: requests, rec"),
        ("windows: [{records: 99, seconds: 10}]", "99 records in 10 s hold no full batch of 100; allowed: batch_size"),
        ("endpoint_classes: {search: {}}", "names 'search', and no request to hubspot is of it; allowed: none"),
        ("endpoint_classes: {api: {separate: true}}", "api is the account as a whole; allowed: limits.windows"),
        ("daily: null, reserve: 0.2", "there is neither; allowed: state one of them, or leave reserve out"),
        ("windows: [{requests: 9, seconds: 86400, by_the_clock: true}]", "allowed: limits.daily, which knows"),
    ],
)
def test_a_limit_that_would_limit_nothing_is_refused_and_says_what_is_allowed(limits: str, said: str):
    [fault] = faults_of(MINIMAL.replace("account: main", f"account: main, limits: {{{limits}}}"))
    assert fault.startswith("destinations.crm")
    assert said in fault


def test_an_account_without_a_budget_needs_no_reserve():
    for limits in ("daily: null", "daily: null, reserve: 0", "windows: [{records: 100, seconds: 86400}], reserve: 0.2"):
        parse_settings(
            MINIMAL.replace("account: main", f"account: main, limits: {{{limits}}}"), path=Path("leads.yaml")
        )


def test_limits_can_be_handed_to_another_process() -> None:
    limits = RequestLimits(daily=None)
    assert RequestLimits.model_validate_json(limits.model_dump_json()) == limits


def test_limits_of_a_class_of_endpoints_are_part_of_what_an_account_allows():
    search = RequestLimits(endpoint_classes={"search": EndpointClassLimits(separate=True)})
    assert not search.same_quota(RequestLimits())


@pytest.mark.parametrize("part", ["reserve: 0.2", "shared_in_flight: 8"])
def test_every_part_of_what_an_account_allows_must_be_one_for_its_destinations(part: str):
    second = "  copy: {vendor: hubspot, account: main, token: {env: CRM_TOKEN}, limits: {LIMITS}}\n"

    [fault] = faults_of(MINIMAL + second.replace("LIMITS", part))
    assert "destinations.copy.limits differ from destinations.crm.limits" in fault
    parse_settings(MINIMAL + second.replace("LIMITS", "in_flight: 2"), path=Path("leads.yaml"))


def test_a_destination_that_is_not_defined_is_named():
    (fault,) = faults_of(MINIMAL.replace("destinations: [crm]", "destinations: [salesforce]"))

    assert "tenants.acme.destinations" in fault
    assert "'salesforce'" in fault
    assert "crm" in fault


def test_a_review_weight_above_the_merge_weight_is_refused():
    (fault,) = faults_of(MINIMAL + "\nmatching: {merge_weight: 1, review_weight: 2}")

    assert fault == "matching: review_weight must not be above merge_weight"


@pytest.mark.parametrize("text", ["", "- a list", "just text"])
def test_a_file_that_is_no_mapping_says_what_it_must_hold(text: str):
    with pytest.raises(ConfigError, match="must hold a mapping"):
        parse_settings(text, path=Path("leads.yaml"))


def test_broken_yaml_is_named_with_its_line():
    with pytest.raises(ConfigError, match="line 2"):
        parse_settings("tenants:\n  acme: [", path=Path("leads.yaml"))


def test_a_key_that_stands_twice_is_refused_with_its_line():
    with pytest.raises(ConfigError, match=r"'sources' stands here twice(.|\n)*line 4"):
        parse_settings("tenants:\n  acme:\n    sources: {a: {}}\n    sources: {b: {}}", path=Path("leads.yaml"))


def test_what_stands_where_a_list_a_mapping_or_a_truth_value_belongs_is_told_in_words_of_the_file():
    faults = faults_of(
        """
version: 1
tenants:
  acme:
    sources:
      a: {cors_origins: "*", rate: 5, mapping: {city: 5}, consent: ["yes"]}
      b: {cors_origins: [www.example.com, "https://x.example/"], redirects: [/thanks]}
capture: {host: "", metrics: maybe, workers: two}
"""
    )

    site = "must be a site without a path, such as https://www.example.com, or '*'"
    consent = "path, purpose, channel, legal_basis, text_version, text_version_path, granted_when"
    assert set(faults) == {
        "tenants.acme.sources.a.cors_origins = '*': must be a list, such as [a, b]",
        "tenants.acme.sources.a.rate = 5: must be a mapping with the keys requests, seconds, burst",
        "tenants.acme.sources.a.mapping.city = 5: must be a mapping with the keys path, default, transform",
        f"tenants.acme.sources.a.consent.0 = 'yes': must be a mapping with the keys {consent}",
        f"tenants.acme.sources.b.cors_origins.0 = 'www.example.com': {site}",
        f"tenants.acme.sources.b.cors_origins.1 = 'https://x.example/': {site}",
        "tenants.acme.sources.b.redirects.0 = '/thanks': must begin with https:// or http://",
        "capture.host = '': string should have at least 1 character",
        "capture.metrics = 'maybe': must be true or false",
        "capture.workers = 'two': must be a whole number",
    }


@pytest.mark.parametrize(
    ("way", "key"),
    [
        ("{kind: json, secret: {env: A}}", "secret"),
        ("{kind: form, verify_token: {env: A}}", "verify_token"),
        ("{kind: typeform, secret: {env: A}, access_token: {env: B}}", "access_token"),
        ("{kind: meta, secret: {env: A}, public_url: https://x.example/v1/in/acme/a}", "public_url"),
        ("{kind: json, redirects: [https://x.example]}", "redirects"),
    ],
)
def test_a_key_that_a_source_s_kind_does_not_heed_is_refused_so_that_nobody_trusts_in_it(way: str, key: str):
    [fault] = faults_of(f"version: 1\ntenants: {{acme: {{sources: {{a: {way}}}}}}}")

    assert fault.startswith(f"tenants.acme.sources.a: {key} does nothing for kind ")


def test_the_place_of_a_yaml_fault_is_told_without_the_parser_s_own_words():
    with pytest.raises(ConfigError) as caught:
        parse_settings("tenants:\n\tacme: {}", path=Path("leads.yaml"))

    assert str(caught.value).startswith("leads.yaml is not YAML: ")
    assert "line 2" in str(caught.value)
    assert "unicode string" not in str(caught.value)


def test_a_word_that_yaml_takes_for_a_truth_value_is_explained():
    (fault,) = faults_of("tenants: {acme: {country: NO, sources: {website: {}}}}")

    assert fault.startswith("tenants.acme.country = False: ")
    assert "put it in quotes" in fault


def test_a_missing_file_says_how_to_name_one(tmp_path: Path):
    with pytest.raises(ConfigError, match="--config or LEADS_CONFIG"):
        load_settings(str(tmp_path / "leads.yaml"))


def test_a_file_that_is_not_text_is_refused(tmp_path: Path):
    path = tmp_path / "leads.yaml"
    path.write_bytes(b"tenants: \xff\xfe")

    with pytest.raises(ConfigError, match="not UTF-8"):
        load_settings(str(path))


def test_the_nearest_file_upwards_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "leads.yaml").write_text(MINIMAL, encoding="utf-8")
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    monkeypatch.delenv("LEADS_CONFIG", raising=False)

    assert config_path() == tmp_path / "leads.yaml"


def test_an_explicit_file_wins_over_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LEADS_CONFIG", str(tmp_path / "other.yaml"))

    assert config_path(str(tmp_path / "mine.yaml")) == tmp_path / "mine.yaml"
    assert config_path() == tmp_path / "other.yaml"


def test_the_state_directory_lies_beside_the_file(tmp_path: Path):
    settings = parse_settings(MINIMAL, path=tmp_path / "leads.yaml")

    assert settings.state_path == tmp_path / ".leads"


def test_a_secret_is_read_when_it_is_needed_and_does_not_show_itself(monkeypatch: pytest.MonkeyPatch):
    token = parse_settings(MINIMAL, path=Path("leads.yaml")).destinations["crm"].token
    monkeypatch.setenv("CRM_TOKEN", "pat-secret")

    secret = token.resolve()

    assert secret.get_secret_value() == "pat-secret"
    assert "pat-secret" not in repr(secret)


def test_a_secret_that_is_not_set_names_its_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CRM_TOKEN", raising=False)
    token = parse_settings(MINIMAL, path=Path("leads.yaml")).destinations["crm"].token

    with pytest.raises(ConfigError, match="CRM_TOKEN"):
        token.resolve()


def test_config_check_warns_of_secrets_that_are_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CRM_TOKEN", raising=False)
    path = tmp_path / "leads.yaml"
    path.write_text(MINIMAL, encoding="utf-8")

    result = CliRunner().invoke(cli, ["--config", str(path), "config", "check"])

    assert result.exit_code == 0
    assert "valid" in result.output
    assert "CRM_TOKEN is not set" in result.output


def test_a_source_may_map_to_the_fields_of_a_lead():
    from leads_pipeline.domain.lead import FIELD_NAMES

    assert LEAD_FIELDS == FIELD_NAMES


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("{kind: typeform}", "a source of kind typeform needs its secret: write secret: {env: NAME}"),
        ("{kind: hubspot, secret: {env: S}}", "a source of kind hubspot needs public_url"),
        ("{kind: faxes}", "kind = 'faxes'"),
        ("{mapping: {mail: email}}", "not a field of a lead; allowed: email, phone"),
        ("{mapping: {email: {path: a, transform: [rot13]}}}", "mapping.email.transform.0 = 'rot13'"),
        ("{lane_rules: [{lane: batch, field: budget}]}", "a lane rule needs one of is_in, matches, at_least"),
        ("{lane_rules: [{lane: batch, field: budget, matches: '('}]}", "not a regular expression"),
        ("{cors_origins: [www.example.com]}", "cors_origins.0 = 'www.example.com'"),
    ],
)
def test_a_source_that_cannot_work_is_named(source: str, fault: str, tmp_path: Path):
    text = f"version: 1\ntenants: {{acme: {{sources: {{website: {source}}}}}}}\n"

    with pytest.raises(ConfigError, match=re.escape(fault)):
        parse_settings(text, path=tmp_path / "leads.yaml")


def test_config_check_warns_of_sources_whose_leads_would_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("S", "secret")
    path = tmp_path / "leads.yaml"
    path.write_text("tenants: {acme: {sources: {ads: {kind: meta, secret: {env: S}}}}}", encoding="utf-8")

    result = CliRunner().invoke(cli, ["--config", str(path), "config", "check"])

    assert result.exit_code == 0
    assert "tenants.acme.sources.ads: without access_token nobody can be asked who its leads are" in result.output
    assert "tenants.acme.sources.ads: without verify_token Meta cannot subscribe to it" in result.output


@pytest.mark.parametrize(
    ("rules", "fault"),
    [
        ("[{name: same_town, when: [city]}]", "matching.rules.0: when joins strangers; allowed: at least one of email"),
        ("[{name: same_name, when: [first_name, last_name]}]", "or first_name and last_name with one of address"),
        ("[{name: a, when: [fax]}]", "matching.rules.0.when.0 = 'fax': input should be 'email', 'own_email'"),
        ("[{name: a, when: []}]", "matching.rules.0: when joins strangers"),
        (
            "[{name: a, when: [phone], veto: [odd]}]",
            "matching.rules.0.veto.0 = 'odd': input should be 'names_disagree'",
        ),
        ("[{name: A B, when: [phone]}]", "matching.rules.0.name = 'A B': allowed: a lower-case letter"),
        ("[{name: a, when: [phone]}, {name: a, when: [email]}]", "matching: rules: a stands twice"),
        ("[{name: a, when: [email, email]}]", "matching.rules.0: when: email stands twice; allowed: each once"),
        (
            "[{name: a, when: [email], veto: [names_disagree, names_disagree]}]",
            "matching.rules.0: veto: names_disagree stands twice",
        ),
    ],
)
def test_a_rule_that_cannot_be_meant_is_named(rules: str, fault: str):
    [told] = faults_of(f"tenants: {{acme: {{sources: {{website: {{}}}}}}}}\nmatching: {{rules: {rules}}}\n")

    assert fault in told


def test_the_cut_offs_must_stand_in_order():
    text = "tenants: {acme: {sources: {website: {}}}}\nmatching: {review_weight: 1, veto_weight: 2}\n"

    assert faults_of(text) == ("matching: veto_weight is 2; allowed: less than review_weight",)


def checked(tmp_path: Path, text: str) -> str:
    path = tmp_path / "leads.yaml"
    path.write_text(f"tenants: {{acme: {{sources: {{website: {{}}}}}}}}\n{text}", encoding="utf-8")
    result = CliRunner().invoke(cli, ["--config", str(path), "config", "check"])
    assert result.exit_code == 0
    return " ".join(result.output.split())


def test_config_check_warns_of_rules_that_never_decide(tmp_path: Path):
    output = checked(
        tmp_path,
        """
matching:
  rules:
    - {name: by_verdict, when: [verified_email]}
    - {name: by_phone, when: [phone], veto: [names_disagree]}
    - {name: by_mobile, when: [mobile, last_name], veto: [names_disagree, companies_disagree]}
    - {name: by_number, when: [phone, last_name], veto: [companies_disagree]}
""",
    )

    assert (
        "matching.rules.0: by_verdict never joins: verification.mx and verification.mailbox look no address" in output
    )
    assert "matching.rules.2: by_mobile never joins: rules.1, by_phone, has joined all that it would" in output
    assert "by_number never joins" not in output


def test_config_check_warns_of_rules_that_join_colleagues(tmp_path: Path):
    output = checked(
        tmp_path,
        """
matching:
  rules:
    - {name: by_name_and_phone, when: [phone, first_name]}
    - {name: by_phone_and_birth, when: [phone, date_of_birth]}
    - {name: by_own_email, when: [own_email]}
    - {name: by_email_of_a_person, when: [email], veto: [role_mailbox]}
    - {name: by_email, when: [email]}
    - {name: by_mobile, when: [mobile, company]}
""",
    )

    assert re.findall(r"(\w+) joins all who share a number or an office's mailbox", output) == ["by_email", "by_mobile"]


def test_config_check_has_nothing_to_say_about_the_usual_rules(tmp_path: Path):
    output = checked(tmp_path, "")
    assert "never joins" not in output
    assert "joins all" not in output


def test_matching_may_speak_of_the_fields_and_vetoes_that_the_domain_knows():
    from typing import get_args

    from leads_pipeline.config.matching import RuleField, RuleVeto
    from leads_pipeline.domain.match_rules import RULE_FIELDS, RULE_VETOES

    assert set(get_args(RuleField)) == set(RULE_FIELDS)
    assert set(get_args(RuleVeto)) == set(RULE_VETOES)
