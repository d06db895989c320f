"""Golden contacts as a destination's properties: every kind of value against every type of property."""

import re
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.domain.destination_schema import DestinationSchema, FieldSchema, FieldType
from leads_pipeline.domain.mapping import DestinationMapping, Fault, Mapped, MappingFault, MappingRule, mapping_faults

BORN = date(1815, 12, 10)
SEEN = datetime(2026, 1, 15, 23, 30, tzinfo=timezone(timedelta(hours=-2)))


def _schema(*fields: FieldSchema) -> DestinationSchema:
    return DestinationSchema({field.name: field for field in fields})


def _mapped(rule: MappingRule, contact: dict[str, Any], field: FieldSchema | None = None) -> Mapped:
    return DestinationMapping([rule], None if field is None else _schema(field)).properties_of(contact)


def _fault(rule: MappingRule, field: FieldSchema) -> MappingFault | None:
    found = mapping_faults([rule], _schema(field))
    return found[0] if found else None


def test_known_fields_go_under_the_destination_s_names_and_unknown_ones_are_left_out() -> None:
    rules = [MappingRule("firstname", "first_name"), MappingRule("company", "company"), MappingRule("born", "born")]
    mapped = DestinationMapping(rules).properties_of({"first_name": "Ada", "company": None, "born": ""})
    assert (mapped.properties, mapped.withheld) == ({"firstname": "Ada"}, {})


def test_a_destination_that_takes_any_property_is_sent_each_as_it_is() -> None:
    rules = [MappingRule("anything", "risk_score"), MappingRule("company", "company")]
    schema = DestinationSchema({"company": FieldSchema("company", FieldType.NUMBER)}, is_open=True)
    assert [(item.name, item.fault) for item in mapping_faults(rules, schema)] == [("company", Fault.WRONG_TYPE)]
    mapped = DestinationMapping(rules, schema).properties_of({"risk_score": 7, "company": "Engines"})
    assert (mapped.properties, mapped.withheld) == ({"anything": 7}, {"company": Fault.WRONG_TYPE})


def test_only_what_was_delivered_before_is_cleared() -> None:
    mapping = DestinationMapping([MappingRule("company", "company"), MappingRule("city", "city")])
    assert mapping.properties_of({}, delivered=("company", "nickname")).properties == {"company": ""}


def test_values_do_not_show_in_representations() -> None:
    mapped = _mapped(MappingRule("email", "email"), {"email": "ada@example.com"})
    assert "ada@example.com" not in repr(mapped)


@pytest.mark.parametrize(
    ("source", "value", "kind", "sent"),
    [
        ("city", "Graz", None, "Graz"),
        ("date_of_birth", BORN, None, "1815-12-10"),
        ("date_of_birth", BORN, FieldType.DATETIME, "1815-12-10T00:00:00.000Z"),
        ("date_of_birth", BORN, FieldType.TEXT, "1815-12-10"),
        ("first_seen_at", SEEN, None, "2026-01-16T01:30:00.000Z"),
        ("first_seen_at", SEEN, FieldType.DATE, "2026-01-16"),
        ("risk_score", 7, None, 7),
        ("risk_score", 7, FieldType.TEXT, "7"),
        ("postcode", " 8010 ", FieldType.NUMBER, 8010),
        ("postcode", "1.5", FieldType.NUMBER, 1.5),
        ("city", "Yes", FieldType.BOOLEAN, True),
        ("city", "0", FieldType.BOOLEAN, False),
        ("city", "2026-01-15", FieldType.DATE, "2026-01-15"),
        ("city", "2026-01-15T12:00:00+01:00", FieldType.DATETIME, "2026-01-15T11:00:00.000Z"),
    ],
)
def test_a_value_is_read_as_what_the_rule_says(
    source: str, value: object, kind: FieldType | None, sent: object
) -> None:
    field = None if kind is None else FieldSchema("p", kind)
    for held in (None, field):
        mapped = _mapped(MappingRule("p", source, kind=kind), {source: value}, held)
        assert (mapped.properties, mapped.withheld) == ({"p": sent}, {})
        assert type(mapped.properties["p"]) is type(sent)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("Graz", FieldType.NUMBER),
        ("nan", FieldType.NUMBER),
        ("perhaps", FieldType.BOOLEAN),
        ("15.1.2026", FieldType.DATE),
        ("soon", FieldType.DATETIME),
    ],
)
def test_what_cannot_be_read_so_is_withheld_and_named(value: str, kind: FieldType) -> None:
    mapped = _mapped(MappingRule("p", "city", kind=kind), {"city": value}, FieldSchema("p", kind))
    assert (mapped.properties, mapped.withheld) == ({}, {"p": Fault.WRONG_TYPE})


@pytest.mark.parametrize(
    ("said", "granted"),
    [
        ({"marketing": {"email": {"granted": True}}}, True),
        ({"marketing": {"email": {"granted": False}}}, False),
        ({"marketing": {"any": {"granted": True}}}, True),
        ({"marketing": {"any": {"granted": True}, "email": {"granted": False}}}, False),
        ({"marketing": {"phone": {"granted": True}}}, None),
        ({}, None),
    ],
)
def test_consent_is_sent_where_something_is_known_of_it(said: dict[str, Any], granted: bool | None) -> None:
    rule = MappingRule("optin", "consent.marketing.email")
    mapped = _mapped(rule, {"consent": said}, FieldSchema("optin", FieldType.BOOLEAN))
    assert mapped.properties == ({} if granted is None else {"optin": granted})


def test_a_table_of_values_says_what_each_becomes() -> None:
    rule = MappingRule("country", "country", values={"AT": "Austria", "DE": "Germany"})
    assert _mapped(rule, {"country": "AT"}).properties == {"country": "Austria"}
    assert _mapped(rule, {"country": "FR"}).withheld == {"country": Fault.NO_VALUE_MAPPED}
    rest = MappingRule("country", "country", values={"AT": "Austria"}, otherwise="Elsewhere")
    assert _mapped(rest, {"country": "FR"}).properties == {"country": "Elsewhere"}
    yes = MappingRule("optin", "consent.a.b", values={"true": "Y", "false": "N"})
    assert _mapped(yes, {"consent": {"a": {"b": {"granted": True}}}}).properties == {"optin": "Y"}


def test_a_constant_is_sent_of_every_contact() -> None:
    rule = MappingRule("lifecyclestage", constant="lead")
    assert _mapped(rule, {}).properties == {"lifecyclestage": "lead"}


def test_a_value_that_is_too_long_or_no_option_is_withheld_never_cut() -> None:
    short = FieldSchema("p", FieldType.TEXT, max_length=3)
    assert _mapped(MappingRule("p", "city"), {"city": "Graz"}, short).withheld == {"p": Fault.TOO_LONG}
    assert _mapped(MappingRule("p", "city"), {"city": "Ulm"}, short).properties == {"p": "Ulm"}
    choice = FieldSchema("p", FieldType.CHOICE, options=frozenset({"Ulm", "true", "7"}))
    assert _mapped(MappingRule("p", "city"), {"city": "Graz"}, choice).withheld == {"p": Fault.NOT_AN_OPTION}
    assert _mapped(MappingRule("p", "city"), {"city": "Ulm"}, choice).properties == {"p": "Ulm"}
    assert _mapped(MappingRule("p", "risk_score"), {"risk_score": 7}, choice).properties == {"p": "7"}


@pytest.mark.parametrize(
    ("value", "fits"), [("a", True), ("a;b", True), ("b;a;c d", True), ("a;b;x", False), ("a;", False), ("x;y", True)]
)
def test_several_options_fit_where_several_may_be_chosen(value: str, fits: bool) -> None:
    options = frozenset({"a", "b", "c d", "x;y"})
    choices = FieldSchema("p", FieldType.CHOICES, options=options)
    assert (_mapped(MappingRule("p", "city"), {"city": value}, choices).properties == {"p": value}) is fits
    one = FieldSchema("p", FieldType.CHOICE, options=options)
    assert (_mapped(MappingRule("p", "city"), {"city": value}, one).properties == {"p": value}) is (value in options)


def test_what_is_withheld_is_not_cleared() -> None:
    mapping = DestinationMapping([MappingRule("p", "city")], _schema(FieldSchema("p", FieldType.TEXT, max_length=3)))
    assert mapping.properties_of({"city": "Graz"}, delivered=("p",)).properties == {}


@pytest.mark.parametrize("type_", FieldType)
@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("city", FieldType.TEXT),
        ("date_of_birth", FieldType.DATE),
        ("last_seen_at", FieldType.DATETIME),
        ("risk_score", FieldType.NUMBER),
        ("consent.marketing.email", FieldType.BOOLEAN),
    ],
)
def test_a_rule_fits_a_property_of_its_own_type_and_any_text(source: str, kind: FieldType, type_: FieldType) -> None:
    fits = type_ is kind or type_ in (FieldType.TEXT, FieldType.CHOICE, FieldType.CHOICES)
    fault = _fault(MappingRule("p", source), FieldSchema("p", type_))
    assert (fault is None) is fits
    if fault is not None:
        assert fault.fault is Fault.WRONG_TYPE
        assert fault.advice
        contact = {
            "city": "x", "date_of_birth": BORN, "last_seen_at": SEEN, "risk_score": 7,
            "consent": {"marketing": {"email": {"granted": True}}},
        }  # fmt: skip
        assert _mapped(MappingRule("p", source), contact, FieldSchema("p", type_)).withheld == {"p": Fault.WRONG_TYPE}


@pytest.mark.parametrize(
    ("rule", "field", "fault", "advice"),
    [
        (MappingRule("firstnme", "first_name"), FieldSchema("firstname", FieldType.TEXT),
         Fault.UNKNOWN_PROPERTY, r"make it at the destination, or map first_name .*did you mean firstname\?"),
        (MappingRule("p", "city"), FieldSchema("p", FieldType.TEXT, read_only=True),
         Fault.READ_ONLY, "map city to another one"),
        (MappingRule("p", "city"), FieldSchema("p", FieldType.DATE), Fault.WRONG_TYPE, "write {to: p, as: date}"),
        (MappingRule("p", "city"), FieldSchema("p", FieldType.OTHER), Fault.WRONG_TYPE, "map city to another property"),
        (MappingRule("p", constant="led"), FieldSchema("p", FieldType.CHOICE, options=frozenset({"lead"})),
         Fault.NOT_AN_OPTION, "it takes one of: lead;"),
        (MappingRule("p", "country", values={"AT": "AUT"}), FieldSchema("p", FieldType.TEXT, max_length=2),
         Fault.TOO_LONG, "2 characters"),
        (MappingRule("p", "country", values={"AT": "x"}, kind=FieldType.NUMBER), FieldSchema("p", FieldType.NUMBER),
         Fault.WRONG_TYPE, "takes number"),
        (MappingRule("p", constant=True), FieldSchema("p", FieldType.NUMBER), Fault.WRONG_TYPE, "a constant is"),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_be_carried_out_is_named_with_what_to_do(
    rule: MappingRule, field: FieldSchema, fault: Fault, advice: str
) -> None:
    [found] = mapping_faults([rule], _schema(field))
    assert (found.name, found.fault, found.blocks) == (rule.name, fault, False)
    assert re.search(advice, found.advice)
    if rule.source is not None and rule.values is None:
        assert _mapped(rule, {rule.source: "Graz"}, field).withheld == {rule.name: fault}


def test_a_required_property_and_a_key_that_is_not_unique_block_the_destination() -> None:
    schema = _schema(
        FieldSchema("lastname", FieldType.TEXT, required=True), FieldSchema("made", FieldType.TEXT, required=True,
        read_only=True), FieldSchema("lead_key", FieldType.TEXT),
    )  # fmt: skip
    faults = {item.name: item for item in mapping_faults([], schema, key="lead_key")}
    assert {name: item.fault for name, item in faults.items()} == {
        "lastname": Fault.REQUIRED_UNMAPPED,
        "lead_key": Fault.KEY_NOT_UNIQUE,
    }
    assert all(item.blocks and item.advice for item in faults.values())
    mended = _schema(
        FieldSchema("lastname", FieldType.TEXT, True), FieldSchema("lead_key", FieldType.TEXT, unique=True)
    )
    assert mapping_faults([MappingRule("lastname", "last_name")], mended, key="lead_key") == []
    [missing] = mapping_faults([], _schema(), key="lead_key")
    assert (missing.fault, missing.blocks) == (Fault.UNKNOWN_PROPERTY, True)


_values = st.none() | st.text(max_size=8) | st.dates() | st.datetimes(timezones=st.just(UTC)) | st.integers()
_fields = st.builds(
    FieldSchema, st.just("p"), st.sampled_from(FieldType), read_only=st.booleans(),
    max_length=st.none() | st.integers(1, 6), options=st.none() | st.frozensets(st.text(max_size=3), max_size=3),
)  # fmt: skip


@given(_values, st.sampled_from([None, *FieldType]), _fields)
def test_a_value_is_sent_or_named_whatever_it_is(value: object, kind: FieldType | None, field: FieldSchema) -> None:
    mapped = _mapped(MappingRule("p", "city", kind=kind), {"city": value}, field)
    known = value is not None and value != ""
    assert ("p" in mapped.properties) + ("p" in mapped.withheld) == known
    sent = mapped.properties.get("p")
    if isinstance(sent, str):
        assert field.max_length is None or len(sent) <= field.max_length
        assert field.options is None or field.type is not FieldType.CHOICE or sent in field.options
        if field.options is not None and field.type is FieldType.CHOICES:
            assert sent in field.options or field.options.issuperset(sent.split(";"))
