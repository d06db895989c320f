"""HubSpot's properties as fields that a mapping can be checked against."""

from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leads_pipeline.crm.hubspot.client import HubSpot
from leads_pipeline.crm.hubspot.schema import MAX_TEXT, schema_of
from leads_pipeline.crm.port import CrmResponse
from leads_pipeline.domain.destination_schema import FieldSchema, FieldType
from leads_pipeline.errors import CrmError
from leads_pipeline.outbound.transport import Transport


def _field(**entry: Any) -> FieldSchema:
    return schema_of({"results": [{"name": "p", **entry}]}).fields["p"]


@pytest.mark.parametrize(
    ("kind", "shown_as", "type_"),
    [
        ("string", "text", FieldType.TEXT),
        ("string", "textarea", FieldType.TEXT),
        ("phone_number", "phonenumber", FieldType.TEXT),
        ("number", "number", FieldType.NUMBER),
        ("bool", "booleancheckbox", FieldType.BOOLEAN),
        ("enumeration", "booleancheckbox", FieldType.BOOLEAN),
        ("enumeration", "select", FieldType.CHOICE),
        ("enumeration", "checkbox", FieldType.CHOICES),
        ("date", "date", FieldType.DATE),
        ("datetime", "date", FieldType.DATETIME),
        ("json", "text", FieldType.OTHER),
        ("object_coordinates", "text", FieldType.OTHER),
    ],
)
def test_each_type_is_known_by_its_own_name_and_by_how_it_is_shown(kind: str, shown_as: str, type_: FieldType) -> None:
    field = _field(type=kind, fieldType=shown_as)
    assert field.type is type_
    assert field.max_length == (MAX_TEXT if type_ is FieldType.TEXT else None)


def test_a_calculated_property_can_not_be_written() -> None:
    assert _field(type="number", calculated=True).read_only
    assert _field(type="number", modificationMetadata={"readOnlyValue": True}).read_only
    assert not _field(type="number", modificationMetadata={"readOnlyDefinition": True}).read_only


def test_options_that_hubspot_keeps_elsewhere_are_not_known() -> None:
    options = [{"label": "Lead", "value": "lead"}]
    assert _field(type="enumeration", fieldType="radio", options=options).options == frozenset({"lead"})
    assert _field(type="enumeration", fieldType="select", options=[], externalOptions=True).options is None


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (CrmResponse(403, {"category": "MISSING_SCOPES"}), r"MISSING_SCOPES.*give the token the scope"),
        (CrmResponse(503, None), r"HTTP_503.*ask again later"),
        (CrmResponse(200, {"results": []}), r"EMPTY_ANSWER.*ask again later"),
    ],
)
def test_a_refusal_to_tell_says_what_to_do(answer: CrmResponse, said: str) -> None:
    transport = Transport("http://127.0.0.1:9", credentials=None, timeout_seconds=1, connections=1)
    client = HubSpot(transport, api_prefix="/crm/v3/objects", key_property="lead_key")
    with closing(client), pytest.raises(CrmError, match=said):
        client.describe(courier=lambda _request: answer)


_json = st.recursive(
    st.none() | st.booleans() | st.text(max_size=5) | st.sampled_from(["enumeration", "checkbox"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["results", "name", "type", "options", "value", "fieldType"]), inner)
    ),
    max_leaves=20,
)


@given(_json)
def test_no_answer_breaks_the_reading(body: Any) -> None:
    assert all(name == field.name for name, field in schema_of(body).fields.items())
