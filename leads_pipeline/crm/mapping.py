"""A destination's mapping as leads.yaml states it, held against what the destination last told of its fields."""

import json
from collections.abc import Sequence
from hashlib import blake2b

import sqlalchemy as sa

from leads_pipeline.config import DestinationSettings
from leads_pipeline.domain.destination_schema import DestinationSchema, FieldType
from leads_pipeline.domain.mapping import DestinationMapping, MappingRule
from leads_pipeline.storage.destination_schemas import read_schema


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
    return with_schema(settings, None if stored is None else stored.schema)


def with_schema(settings: DestinationSettings, schema: DestinationSchema | None) -> DestinationMapping:
    """The mapping with this schema."""
    return DestinationMapping(mapping_rules(settings), schema, settings.key())


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
