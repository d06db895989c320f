"""Consent statements out of the fields of a form: which ticked box means what."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from leads_pipeline.domain.consent import read_yes_or_no


class ConsentMapping(Protocol):
    """What ``config.ConsentMappingSettings`` says."""

    @property
    def path(self) -> str: ...
    @property
    def purpose(self) -> str: ...
    @property
    def channel(self) -> str: ...
    @property
    def legal_basis(self) -> str | None: ...
    @property
    def text_version(self) -> str | None: ...
    @property
    def text_version_path(self) -> str | None: ...
    @property
    def granted_when(self) -> tuple[str, ...]: ...


def consent_statements(fields: Mapping[str, Any], mappings: Sequence[ConsentMapping]) -> list[dict[str, Any]]:
    """One statement for each mapped field that the post has. A field that is missing or empty states nothing."""
    return [
        _statement(value, mapping, fields)
        for mapping in mappings
        if not _is_blank(value := _first(fields.get(mapping.path)))
    ]


def _statement(value: Any, mapping: ConsentMapping, fields: Mapping[str, Any]) -> dict[str, Any]:
    answer = read_yes_or_no(value)
    meant = {word.strip().casefold() for word in mapping.granted_when}
    if answer is None and isinstance(value, str) and value.strip().casefold() in meant:
        answer = True
    version = mapping.text_version
    if mapping.text_version_path is not None:
        version = _text(_first(fields.get(mapping.text_version_path))) or version
    statement: dict[str, Any] = {
        "granted": value if answer is None else answer,  # what cannot be read is kept as it came, never guessed at
        "purpose": mapping.purpose,
        "channel": mapping.channel,
        "field": mapping.path,
    }
    if mapping.legal_basis is not None:
        statement["legal_basis"] = mapping.legal_basis
    if version is not None:
        statement["text_version"] = version
    return statement


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _is_blank(value: Any) -> bool:
    return value is None or value == [] or (isinstance(value, str) and not value.strip())


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None
