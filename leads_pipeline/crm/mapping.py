"""A destination's mapping: as leads.yaml states it, with what persons changed, and with what the destination told."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

import sqlalchemy as sa
import yaml
from pydantic import ValidationError

from leads_pipeline.config import DestinationSettings, RuleSettings
from leads_pipeline.domain.destination_schema import DestinationSchema, FieldType
from leads_pipeline.domain.mapping import DestinationMapping, MappingRule
from leads_pipeline.errors import LeadsError
from leads_pipeline.storage.destination_schemas import faulty_destinations, marks_with, read_schema
from leads_pipeline.storage.mapping_overrides import current_overrides
from leads_pipeline.storage.refused_properties import refused_at

# For how long what a destination told of its fields is believed without asking again.
SCHEMA_KEPT = timedelta(hours=1)


def mapping_rules(settings: DestinationSettings) -> tuple[MappingRule, ...]:
    """The rules of one destination: its fields, then its constants."""
    rules = []
    for source, target in settings.mapping.items():
        if isinstance(target, str):
            rules.append(MappingRule(target, source))
            continue
        kind = None if target.as_ is None else FieldType(target.as_)
        rules.append(MappingRule(target.to, source, kind=kind, values=target.values, otherwise=target.otherwise))
    rules += [MappingRule(name, constant=value) for name, value in settings.constants.items()]
    return tuple(rules)


def destination_mapping(
    connection: sa.Connection, destination: str, settings: DestinationSettings
) -> DestinationMapping:
    """The mapping with the schema that is kept; without one nothing can be checked, and everything is sent."""
    stored = read_schema(connection, destination)
    mapping = with_schema(connection, destination, settings, None if stored is None else stored.schema)
    return replace(mapping, marks=marks_with({} if stored is None else stored.marks, mapping.refused))


def blocked_destinations(
    connection: sa.Connection, destinations: Mapping[str, DestinationSettings]
) -> dict[str, datetime]:
    """The destinations at which no contact can be sent as it is mapped, and until when what they told is believed."""
    found = {}
    for name in faulty_destinations(connection, list(destinations)):
        stored = read_schema(connection, name)
        mapping = destination_mapping(connection, name, destinations[name])  # leads.yaml may be mended since
        if stored is not None and any(fault.blocks for fault in mapping.faults()):
            found[name] = stored.fetched_at + SCHEMA_KEPT
    return found


def with_schema(
    connection: sa.Connection, destination: str, settings: DestinationSettings, schema: DestinationSchema | None
) -> DestinationMapping:
    """The mapping with this schema. What a person changed of a property goes before what leads.yaml says of it."""
    changed = {item.property: item.rule for item in current_overrides(connection, destination)}
    rules = [rule for rule in mapping_rules(settings) if rule.name not in changed]
    rules += [rule_from_json(name, rule) for name, rule in changed.items() if rule]
    refused = frozenset(refused_at(connection, destination))
    return DestinationMapping(tuple(rules), schema, settings.key(), refused)


def read_rule(name: str, text: str) -> MappingRule | None:
    """The rule that a person gives a property: a field's name, or ``{from: FIELD, as: date}`` and the like in YAML.

    Nothing at all leaves the property out: ``None``.

    Raises:
        LeadsError: it is no rule.
    """
    if not text.strip():
        return None
    try:
        document = yaml.safe_load(text)
        given = RuleSettings.model_validate({"from": document} if isinstance(document, str) else document)
    except yaml.YAMLError:
        raise LeadsError(f"the rule of {name} is not YAML: write FIELD or {{from: FIELD, as: date}}") from None
    except ValidationError as error:
        raise LeadsError(f"the rule of {name}: {error.errors(include_input=False)[0]['msg']}") from None
    kind = None if given.as_ is None else FieldType(given.as_)
    return MappingRule(name, given.from_, given.constant, kind, given.values, given.otherwise)


def rule_as_json(rule: MappingRule | None) -> dict[str, Any]:
    """A rule as it is kept; ``None``, which leaves the property out, as an empty document."""
    return {} if rule is None else {name: value for name, value in asdict(rule).items() if name != "name"}


def rule_from_json(name: str, rule: Mapping[str, Any]) -> MappingRule:
    """A rule that was kept."""
    return MappingRule(name, **{**rule, "kind": FieldType(rule["kind"]) if rule["kind"] else None})


def marks_of(rules: Sequence[MappingRule], schema: DestinationSchema) -> dict[str, str]:
    """A mark for how each property is mapped and what the destination says of it; it changes when one of them does."""
    marks = {}
    for rule in rules:
        held = schema.fields.get(rule.name)
        options = sorted(held.options) if held and held.options is not None else None
        told = [held.type, held.read_only, held.max_length, options] if held else None
        table = sorted(rule.values.items()) if rule.values is not None else None
        said = [rule.source, rule.constant, rule.kind, table, rule.otherwise, told]
        marks[rule.name] = blake2b(json.dumps(said).encode(), digest_size=8).hexdigest()
    return marks
