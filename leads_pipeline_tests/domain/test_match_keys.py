"""Blocking keys."""

from dataclasses import fields as dataclass_fields
from datetime import date
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.domain.match_keys import INDEX_VERSION, MatchFields, given_name_forms, given_name_root, match_keys

NAMES = st.one_of(st.none(), st.text(alphabet="abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8))
FIELDS = st.builds(
    MatchFields,
    email_key=st.one_of(st.none(), st.from_regex(r"[a-z0-9.]{1,9}@[a-z]{2,6}\.com", fullmatch=True)),
    phone_key=st.one_of(st.none(), st.from_regex(r"\+[1-9][0-9]{6,11}", fullmatch=True)),
    first_name_key=NAMES,
    last_name_key=NAMES,
    company_key=NAMES,
    date_of_birth=st.one_of(st.none(), st.dates()),
    address_key=NAMES,
    city_key=NAMES,
    postcode_key=NAMES,
)


def kinds(left: MatchFields, right: MatchFields) -> set[str]:
    return {key.kind for key in set(match_keys(left)) & set(match_keys(right))}


@given(FIELDS)
def test_keys_are_distinct_repeatable_and_fit_a_signed_64_bit_column(fields: MatchFields) -> None:
    keys = match_keys(fields)
    assert len({key.key_hash for key in keys}) == len(keys)
    assert match_keys(fields) == keys
    assert all(-(2**63) <= key.key_hash < 2**63 for key in keys)
    assert len(keys) <= 30


def test_nothing_known_has_no_key() -> None:
    assert match_keys(MatchFields()) == ()


@given(FIELDS)
def test_a_given_and_a_family_name_may_be_exchanged(fields: MatchFields) -> None:
    if not fields.first_name_key or not fields.last_name_key:
        return
    # Short forms of given names are looked up in the place of the given name only.
    if given_name_root(fields.first_name_key) != fields.first_name_key:
        return
    if given_name_root(fields.last_name_key) != fields.last_name_key:
        return
    values = {field.name: getattr(fields, field.name) for field in dataclass_fields(fields)}
    swapped = MatchFields(**{**values, "first_name_key": fields.last_name_key, "last_name_key": fields.first_name_key})
    assert "name" in kinds(fields, swapped)


@pytest.mark.parametrize(
    ("left", "right", "kind"),
    [
        (MatchFields(email_key="a@b.com"), MatchFields(email_key="a@b.com"), "email"),
        (MatchFields(phone_key="+14155552671"), MatchFields(phone_key="+14155552671"), "phone"),
        (
            MatchFields(first_name_key="bob", last_name_key="miller"),
            MatchFields(first_name_key="robert", last_name_key="miller"),
            "name",
        ),
        (
            MatchFields(first_name_key="anna", last_name_key="schmidt"),
            MatchFields(first_name_key="ana", last_name_key="schmitt"),
            "name",
        ),
        (
            MatchFields(email_key="jo.smith@firm.com"),
            MatchFields(email_key="jo.smith@other.com"),
            "mailbox",
        ),
        (MatchFields(email_key="jo.smith@firm.com"), MatchFields(email_key="jo.smtih@firm.com"), "part_mailbox"),
        (
            MatchFields(last_name_key="smith", email_key="jo.smith@firm.com"),
            MatchFields(last_name_key="smyth", email_key="jo.smtih@firm.com"),
            "part_mailbox",
        ),
        (MatchFields(email_key="ar20@miller.org"), MatchFields(email_key="ar20@other.org"), "mailbox"),
        (MatchFields(external_id_key="web:42"), MatchFields(external_id_key="web:42"), "external_id"),
        (MatchFields(postcode_key="tn85jy"), MatchFields(postcode_key="tn85hl"), "area"),
        (MatchFields(postcode_key="90210"), MatchFields(postcode_key="90212"), "area"),
        (
            MatchFields(first_name_key="yuri", last_name_key="schmidt"),
            MatchFields(first_name_key="iouri", last_name_key="schmitt"),
            "name",
        ),
        (
            MatchFields(first_name_key="kowalczyk", city_key="graz"),
            MatchFields(first_name_key="anna", last_name_key="kowalczyk", city_key="graz"),
            "part_city",
        ),
        (
            MatchFields(last_name_key="meyer", date_of_birth=date(1980, 2, 29)),
            MatchFields(last_name_key="meier", date_of_birth=date(1980, 3, 1)),
            "part_year",
        ),
        (
            MatchFields(city_key="graz", date_of_birth=date(1980, 2, 29)),
            MatchFields(city_key="grazz", date_of_birth=date(1980, 3, 1)),
            "city_year",
        ),
        (MatchFields(date_of_birth=date(1980, 2, 29)), MatchFields(date_of_birth=date(1980, 2, 29)), "born"),
        (
            MatchFields(last_name_key="meyer", company_key="acme"),
            MatchFields(last_name_key="meier", company_key="acme"),
            "part_work",
        ),
        (
            MatchFields(last_name_key="meyer", company_key="northwindtraders"),
            MatchFields(last_name_key="meier", email_key="sales@north-wind.example", role_mailbox=True),
            "part_work",
        ),
        (
            MatchFields(last_name_key="meyer", email_key="am@mail.northwind.co.uk"),
            MatchFields(last_name_key="meier", email_key="pm@northwind.example"),
            "part_work",
        ),
        (
            MatchFields(first_name_key="bob", last_name_key="miller", phone_key="+14155552671"),
            MatchFields(first_name_key="robert", last_name_key="miller", phone_key="+4155552671"),
            "name_phone",
        ),
        (
            MatchFields(first_name_key="bob", last_name_key="miller", job_title_key="cto"),
            MatchFields(first_name_key="robert", last_name_key="miller", job_title_key="cto"),
            "name_title",
        ),
        (
            MatchFields(first_name_key="bob", last_name_key="miller", email_key="bob1987@quickmail.example"),
            MatchFields(first_name_key="bob", last_name_key="miller", email_key="obb1987@other.example"),
            "name_digits",
        ),
    ],
)
def test_what_is_probably_one_person_shares_a_key(left: MatchFields, right: MatchFields, kind: str) -> None:
    assert kind in kinds(left, right)


@pytest.mark.parametrize(
    ("known", "by_place"),
    [
        ({}, True),
        ({"date_of_birth": date(1980, 4, 2)}, True),
        ({"date_of_birth": date(1980, 4, 2), "email_key": "ada@firm.com"}, True),
        ({"email_key": "ada@firm.com"}, False),
        ({"phone_key": "+15551234567"}, False),
    ],
)
def test_who_can_be_reached_is_looked_for_by_place_only_with_a_birth(known: dict[str, Any], by_place: bool) -> None:
    record = MatchFields(last_name_key="lovelace", city_key="london", postcode_key="94105", **known)
    own = {key.kind for key in match_keys(record)}
    assert own.isdisjoint({"part_city", "part_area", "area"}) is not by_place


def test_equal_values_of_different_kinds_are_different_keys() -> None:
    assert not kinds(MatchFields(postcode_key="2134"), MatchFields(address_key="2134"))


def test_a_short_mailbox_name_is_nobodys_in_particular() -> None:
    assert not kinds(MatchFields(email_key="info@firm.com"), MatchFields(email_key="info@other.com"))


@pytest.mark.parametrize(
    ("name", "root"), [("bob", "robert"), ("robert", "robert"), ("kate", "katherine"), ("zoltan", "zoltan")]
)
def test_a_short_form_leads_to_its_full_form(name: str, root: str) -> None:
    assert given_name_root(name) == root
    assert {name, root} <= set(given_name_forms(name))


def test_a_role_mailbox_leads_to_nobody_by_its_name() -> None:
    left = MatchFields(email_key="marketing@firm.com", role_mailbox=True)
    assert not kinds(left, MatchFields(email_key="marketing@other.com", role_mailbox=True))
    assert kinds(left, left) == {"email"}


def test_a_free_mail_provider_is_nobodys_place_of_work() -> None:
    left = MatchFields(last_name_key="meyer", email_key="anna.meyer@gmail.com")
    assert not kinds(left, MatchFields(last_name_key="meyer", email_key="zoe.meyer@gmail.com"))


def test_a_lead_of_a_usual_form_has_few_keys() -> None:
    usual = MatchFields(
        email_key="anna.kowalczyk@firm.com",
        phone_key="+14155552671",
        first_name_key="anna",
        last_name_key="kowalczyk",
        company_key="firm",
        city_key="graz",
        job_title_key="head of sales",
    )
    assert len(match_keys(usual)) <= 14


def test_who_changes_the_keys_gives_them_another_version() -> None:
    anna = MatchFields(
        email_key="a.kowalczyk@northwind.com", phone_key="+14155552671", first_name_key="anna",
        last_name_key="kowalczyk", company_key="northwind", date_of_birth=date(1980, 4, 5), address_key="1 main street",
        city_key="graz", postcode_key="80101", job_title_key="cto", external_id_key="crm:7",
    )  # fmt: skip
    bill = MatchFields(first_name_key="bill", last_name_key="mueller", email_key="bill77@gmail.com")
    emil = MatchFields(first_name_key="emil", last_name_key="nolde", city_key="seebuell", postcode_key="25927")
    keys = sorted(key for record in (anna, bill, emil) for key in match_keys(record))
    digest = sha256(repr((keys, [field.name for field in dataclass_fields(MatchFields)])).encode()).hexdigest()[:16]
    # Records of released versions are found by these. After a release, a new digest needs a higher version; then
    # `leads matching reindex` makes the records of every database anew.
    assert (INDEX_VERSION, digest) == (1, "676299c8a6811653")
